from __future__ import annotations

import numpy as np
import pytest
import torch

from common.transforms.random_places import check_fits, random_start, random_voxel


def starts(size, window, position=None, multiple=1, draws=2000) -> list[int]:
    random = np.random.RandomState(0)
    return [random_start(random, size, window, position, multiple) for _ in range(draws)]


@pytest.mark.parametrize(("multiple", "size", "window"), [(1, 30, 12), (8, 64, 16), (8, 64, 64), (4, 48, 8)])
def test_every_start_that_holds_the_position_is_drawn_and_no_other(multiple, size, window):
    for position in range(size):
        allowed = {start for start in range(0, size - window + 1, multiple) if start <= position < start + window}
        assert set(starts(size, window, position, multiple, 400)) == allowed


def test_offsets_are_uniform_far_from_the_border():
    counts = np.bincount(starts(100, 10, 50, draws=20_000), minlength=51)[41:51]
    assert counts.sum() == 20_000 and counts.min() > 1700 and counts.max() < 2300


def test_windows_beyond_the_border_are_moved_in():
    found = starts(100, 10, 2)
    assert found.count(0) > 0.7 * len(found) and max(found) == 2


def test_every_start_without_a_position():
    assert set(starts(40, 16, multiple=8)) == {0, 8, 16, 24}


def test_voxels_of_a_mask():
    mask = torch.zeros(4, 5, 6)
    assert random_voxel(np.random.RandomState(0), mask) is None
    places = {(0, 0, 0), (3, 4, 5), (1, 2, 3)}
    for place in places:
        mask[place] = 7
    random = np.random.RandomState(0)
    assert {random_voxel(random, mask) for _ in range(100)} == places


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="a window of 8 x 20 voxels does not fit into the volume, which has 16 x 16"):
        check_fits((16, 16), (8, 20))
    with pytest.raises(ValueError, match="multiples of 8 in-plane, got 20 x 16 x 3 and 8 x 8 x 3"):
        check_fits((20, 16, 3), (8, 8, 3), 8)
    check_fits((16, 16, 3), (8, 8, 3), 8)

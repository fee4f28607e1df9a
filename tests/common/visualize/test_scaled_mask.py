from __future__ import annotations

import numpy as np
import pytest

from common.visualize.scaled_mask import scaled_mask


def square(size: tuple[int, int], box: tuple[int, int, int, int]) -> np.ndarray:
    top, bottom, left, right = box
    mask = np.zeros(size, np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def test_the_same_size_changes_nothing():
    mask = square((20, 30), (3, 9, 10, 22))
    np.testing.assert_array_equal(scaled_mask(mask, (30, 20)), mask > 0)


@pytest.mark.parametrize("scale", [2, 5])
def test_larger(scale):
    """The border stays in its place; only corners are rounded."""
    found = scaled_mask(square((20, 30), (4, 12, 10, 20)), (30 * scale, 20 * scale))
    wanted = square((20 * scale, 30 * scale), (4 * scale, 12 * scale, 10 * scale, 20 * scale)) > 0
    assert (found & ~wanted).sum() == 0 and (wanted & ~found).sum() <= 4 * scale**2 / 4


def test_a_line_between_grids_is_no_stairs():
    """A slanted border on a grid of 12 x 12, on a picture eight times as large."""
    mask = np.tril(np.ones((12, 12)))
    edge = [np.flatnonzero(row).max() for row in scaled_mask(mask, (96, 96))[16:80]]
    assert np.abs(np.diff(edge)).max() <= 2


def test_smaller_and_small_things_are_not_lost():
    found = scaled_mask(square((40, 60), (10, 12, 20, 21)), (15, 10))
    assert found.shape == (10, 15) and found.sum() == 1 and found[2, 5]
    assert not scaled_mask(np.zeros((40, 60)), (15, 10)).any()

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.transforms.slice_triples import RandSliceTripled, neighbour_slices

SHAPE = (24, 32, 7)


def numbered(shape=SHAPE) -> torch.Tensor:
    """A volume whose voxels carry their own number."""
    return torch.arange(int(np.prod(shape)), dtype=torch.float32).reshape(1, *shape)


def place_of(value: float, shape=SHAPE) -> tuple[int, ...]:
    return tuple(int(index) for index in np.unravel_index(int(value), shape))


def draw(times: int, label: torch.Tensor | None, **options):
    sampler = RandSliceTripled(label_key=None if label is None else "label", spatial_size=(8, 16), **options)
    sampler.set_random_state(0)
    item = {"image": numbered()} if label is None else {"image": numbered(), "label": label}
    return [sampler(item) for _ in range(times)]


def test_neighbours():
    assert neighbour_slices(0, 3, 3) == [0, 0, 1, 2, 2]
    assert neighbour_slices(4, 2, 9) == [3, 4, 5, 6]


def test_three_neighbouring_slices_and_the_label_of_the_middle_one():
    label = (numbered() % 20).to(torch.uint8)
    centres = set()
    for found in draw(300, label):
        assert found["image"].shape == (3, 8, 16) and found["label"].shape == (1, 8, 16)
        row, column, centre = place_of(found["image"][1, 0, 0])
        part = numbered()[0, row : row + 8, column : column + 16]
        for channel, index in enumerate((max(centre - 1, 0), centre, min(centre + 1, 6))):
            assert torch.equal(found["image"][channel], part[..., index])
        assert torch.equal(found["label"][0], part[..., centre] % 20)
        centres.add(centre)
    assert centres == set(range(7))


def test_foreground_is_in_one_of_the_three_slices():
    label = torch.zeros(1, *SHAPE, dtype=torch.uint8)
    label[0, 20, 5, 3] = 4
    centres = []
    for found in draw(200, label):
        row, column, centre = place_of(found["image"][1, 0, 0])
        assert row <= 20 < row + 8 and column <= 5 < column + 16
        centres.append(centre)
        assert found["label"].sum() == (4 if centre == 3 else 0)
    assert set(centres) == {2, 3, 4}


@pytest.mark.parametrize("label", [None, torch.zeros(1, *SHAPE)])
def test_without_foreground_every_part_is_as_likely(label):
    places = np.array([place_of(found["image"][1, 0, 0]) for found in draw(2000, label)])
    assert places.min(axis=0).tolist() == [0, 0, 0] and places.max(axis=0).tolist() == [16, 16, 6]
    assert np.allclose(places.mean(axis=0), [8, 8, 3], atol=0.4)


def test_the_same_seed_draws_the_same():
    volume = MetaTensor(numbered())
    sampler = RandSliceTripled(label_key=None, spatial_size=(8, 16))
    runs = []
    for seed in (1, 1, 2):
        sampler.set_random_state(seed)
        runs.append([float(sampler({"image": volume})["image"][1, 0, 0]) for _ in range(5)])
    assert runs[0] == runs[1] != runs[2]


def test_too_small():
    with pytest.raises(ValueError, match="a window of 8 x 64 voxels does not fit"):
        RandSliceTripled(label_key=None, spatial_size=(8, 64))({"image": numbered()})

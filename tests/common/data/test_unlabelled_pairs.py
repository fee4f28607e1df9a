from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from monai.data import Dataset
from monai.transforms import Compose, RandScaleIntensityd

from common.data.unlabelled_pairs import UnlabelledPairs

ITEMS = 10


def pairs(items: int = ITEMS, augmented: bool = False, **options) -> UnlabelledPairs:
    """Images of four pixels, each with its own number."""
    data = [{"image": torch.full((1, 2, 2), float(1 + item))} for item in range(items)]
    transform = Compose([RandScaleIntensityd("image", factors=0.3, prob=1.0)] if augmented else [])
    return UnlabelledPairs(Dataset(data, transform), **{"batch_size": 3} | options)


def values(source: UnlabelledPairs, steps: int = 4, seed: int = 0) -> np.ndarray:
    """What the pairs hold: (steps, 2, batch)."""
    return np.array([[batch["image"][:, 0, 0, 0].tolist() for batch in pair] for pair in source.epoch(steps, seed)])


def test_as_many_pairs_as_asked_for():
    assert values(pairs()).shape == (4, 2, 3)
    assert len(pairs()) == ITEMS


def test_items_come_with_replacement_and_alike_often():
    drawn = values(pairs(), steps=400)
    assert any(len(set(batch)) < len(batch) for batch in drawn.reshape(-1, 3))
    for half in drawn[:, 0], drawn[:, 1]:
        shares = np.bincount(half.ravel().astype(int), minlength=ITEMS + 1)[1:] / half.size
        assert np.abs(shares - 1 / ITEMS).max() < 0.035  # 4 standard deviations of 1200 draws


def test_the_two_batches_are_independent():
    first, second = values(pairs(), steps=400).transpose(1, 0, 2).reshape(2, -1)
    assert np.mean(first == second) == pytest.approx(1 / ITEMS, abs=0.035)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_seed_alone_tells_items_and_augmentations(workers):
    source = pairs(augmented=True, num_workers=workers)
    first = values(source, seed=2**62)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    assert np.array_equal(values(source, seed=2**62), first)
    assert np.array_equal(values(pairs(augmented=True, num_workers=workers), seed=2**62), first)
    assert not np.array_equal(values(source, seed=1), first)


def test_random_numbers_of_others_are_left_alone():
    state = torch.get_rng_state()
    values(pairs(augmented=True))
    assert torch.equal(torch.get_rng_state(), state)

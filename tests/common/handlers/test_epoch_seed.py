from __future__ import annotations

import random
from unittest import mock

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import CacheDataset, DataLoader
from monai.transforms import Compose, RandGaussianNoised, RandRotate90d

from common.handlers import EpochSeed


def draws(epochs: int, seed=0, rank=0, start: int = 0) -> dict[int, tuple]:
    """What the three generators give in each epoch from ``start`` on."""
    found = {}
    engine = Engine(lambda engine, batch: None)
    EpochSeed(seed).attach(engine)

    @engine.on(Events.ITERATION_COMPLETED)
    def note(engine):
        found.setdefault(engine.state.epoch, []).append(
            (random.random(), float(np.random.random()), float(torch.rand(1)))
        )

    if start:
        engine.load_state_dict({"epoch": start, "max_epochs": start + epochs, "epoch_length": 2})
    with mock.patch("torch.distributed.is_initialized", lambda: rank > 0):
        with mock.patch("torch.distributed.get_rank", lambda: rank):
            engine.run([0, 0], max_epochs=start + epochs, epoch_length=2)
    return {epoch: tuple(values) for epoch, values in found.items()}


def test_the_same_epoch_draws_the_same():
    first = draws(4)
    random.seed(99), np.random.seed(99), torch.manual_seed(99)
    assert draws(4) == first and list(first) == [1, 2, 3, 4]


def test_each_generator_differs_between_epochs_and_steps():
    steps = [step for epoch in draws(4).values() for step in epoch]
    for generator in zip(*steps, strict=True):
        assert len(set(generator)) == len(steps) == 8


def test_an_interrupted_run_goes_on_alike():
    whole = draws(5)
    random.seed(7), np.random.seed(7), torch.manual_seed(7)
    rest = draws(2, start=3)
    assert rest == {epoch: whole[epoch] for epoch in (4, 5)}


@pytest.mark.parametrize("other", [{"seed": 1}, {"rank": 1}])
def test_seeds_and_ranks_differ(other):
    ours, theirs = draws(3), draws(3, **other)
    assert all(ours[epoch] != theirs[epoch] for epoch in ours)


def augmented(epochs: int, start: int = 0) -> list[list[float]]:
    """Order and augmentation of a small training without workers."""
    transform = Compose([RandRotate90d("image", prob=0.5), RandGaussianNoised("image", prob=1.0)])
    dataset = CacheDataset([{"image": torch.full((1, 2, 2), float(i))} for i in range(6)], transform, progress=False)
    found: dict[int, list[float]] = {}

    def step(engine, batch):
        found.setdefault(engine.state.epoch, []).extend(batch["image"].flatten(1).sum(1).tolist())

    engine = Engine(step)
    EpochSeed(3, dataset).attach(engine)
    if start:
        engine.load_state_dict({"epoch": start, "max_epochs": start + epochs, "epoch_length": 3})
    engine.run(DataLoader(dataset, batch_size=2, shuffle=True), max_epochs=start + epochs)
    return [found[epoch] for epoch in sorted(found)]


def test_shuffles_and_augmentations_are_the_epochs_own():
    whole = augmented(4)
    assert len({tuple(epoch) for epoch in whole}) == 4
    assert augmented(4) == whole
    assert augmented(2, start=2) == whole[2:]


def test_a_shared_sampler_shuffles_by_epoch():
    sampler = torch.utils.data.DistributedSampler(range(16), num_replicas=2, rank=0)
    loader = DataLoader(list(range(16)), batch_size=4, sampler=sampler)
    engine = Engine(lambda engine, batch: None)
    EpochSeed(0, dataloader=loader).attach(engine)
    orders = []
    engine.add_event_handler(
        Events.ITERATION_STARTED, lambda engine: orders.append(engine.state.epoch == sampler.epoch)
    )
    engine.run([0], max_epochs=3)
    assert orders == [True] * 3

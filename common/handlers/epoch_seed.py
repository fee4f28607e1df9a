"""Random numbers that depend on seed, epoch and rank alone."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.transforms import Randomizable

__all__ = ["EpochSeed"]


class EpochSeed:
    """Seed everything anew at the start of each epoch.

    A training that was interrupted after epoch k and one that was not then draw the same shuffles and the same
    augmentations from epoch k + 1 on, without any random state in a checkpoint.

    Args:
        seed: the run's seed.
        dataset: the training data, whose ``transform`` draws in this process when there are no workers.
        dataloader: the training loader; where several processes share the data, its sampler shuffles by epoch.

    Where several processes train together, each draws its own augmentations.
    """

    def __init__(self, seed: int, dataset: Any = None, dataloader: Any = None) -> None:
        self.seed, self.dataset, self.dataloader = int(seed), dataset, dataloader

    def attach(self, engine: Engine) -> None:
        """Seed at the start of every epoch of ``engine``."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        state = np.random.SeedSequence([self.seed, engine.state.epoch, rank]).generate_state(1)
        seed = int(state[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        transform = getattr(self.dataset, "transform", None)
        if isinstance(transform, Randomizable):
            transform.set_random_state(seed=seed)
        sampler = getattr(self.dataloader, "sampler", None)
        if isinstance(sampler, torch.utils.data.DistributedSampler):
            sampler.set_epoch(engine.state.epoch)

"""Random numbers that depend on seed, epoch and rank alone."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
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
        rank: of this process; each draws its own augmentations.
    """

    def __init__(self, seed: int, dataset: Any = None, rank: int = 0) -> None:
        self.seed, self.dataset, self.rank = int(seed), dataset, int(rank)

    def attach(self, engine: Engine) -> None:
        """Seed at the start of every epoch of ``engine``."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        state = np.random.SeedSequence([self.seed, engine.state.epoch, self.rank]).generate_state(1)
        seed = int(state[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        transform = getattr(self.dataset, "transform", None)
        if isinstance(transform, Randomizable):
            transform.set_random_state(seed=seed)

"""Unlabelled batches, two for each step of a semi-supervised training."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any

import torch
from monai.data import DataLoader

__all__ = ["UnlabelledPairs"]


class UnlabelledPairs:
    """Draw pairs of batches from unlabelled data.

    All items are drawn with replacement, uniformly and independently of each other: the two batches of a pair are what
    two independent samplers of the same data would give. What is drawn in an epoch, random transforms included, is told
    by the seed that is given for it.

    Args:
        dataset: items with an ``image``; those of a batch have the same shape. Its random transforms are seeded anew in
            every epoch: let it share none with other data.
        batch_size: of each of the two.
        num_workers: processes that load.
        options: for :class:`monai.data.DataLoader`, such as ``pin_memory``.
    """

    def __init__(self, dataset: Sized, batch_size: int, num_workers: int = 0, **options: Any) -> None:
        self.dataset, self.batch_size = dataset, int(batch_size)
        self.options = {"num_workers": int(num_workers), **options}

    def __len__(self) -> int:
        """Return how many items there are."""
        return len(self.dataset)

    def epoch(self, steps: int, seed: int) -> Iterator[tuple[Any, Any]]:
        """Return the pairs of an epoch.

        Args:
            steps: how many pairs.
            seed: 0 or more and below 2**63.
        """
        generator = torch.Generator().manual_seed(seed)
        batches = torch.randint(len(self.dataset), (2 * steps, self.batch_size), generator=generator).tolist()
        # MONAI's loader seeds the transforms by the generator, in this process and in workers.
        loaded = iter(DataLoader(self.dataset, batch_sampler=batches, generator=generator, **self.options))
        return zip(loaded, loaded, strict=True)

"""Which cases a process takes where several work together."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import torch.distributed as dist
from torch.utils.data import Sampler

__all__ = ["EvaluationSampler"]


class EvaluationSampler(Sampler[int]):
    """Deal the cases out in turn, none twice.

    MONAI's ``DistributedSampler`` refuses data with fewer cases than processes. Here every process then takes all of
    them: a mean over the processes stays the mean over the cases, and reports drop what came twice.

    Args:
        dataset: what is evaluated.
    """

    def __init__(self, dataset: Sized) -> None:
        rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        count = len(dataset)
        self.indices = list(range(count)) if count < ranks else list(range(rank, count, ranks))

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)

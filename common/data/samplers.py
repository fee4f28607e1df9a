"""Which cases are drawn how often, and which a process takes where several work together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Sized
from typing import Any

import torch.distributed as dist
from torch.utils.data import Sampler, WeightedRandomSampler

from common.errors import InputError

__all__ = ["BalancedSampler", "EvaluationSampler"]


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


class BalancedSampler(WeightedRandomSampler):
    """Draw cases so that those of small groups come more often, and an epoch is as long as before.

    A case of a group of n is drawn in proportion to ``n ** -power``: with 0 as often as any other, with 1 all groups
    as often as each other. In between, a group of three cases is learned without being learned by heart.

    Args:
        items: the training cases, as :class:`common.data.SpineCases` gives them.
        group_by: the entry of the datalist by which they are grouped; cases that lack it are a group of their own.
        power: 0 to 1.
        length: draws in an epoch; None: as many as there are cases.

    Raises:
        InputError: ``power`` is out of range, or ``length`` is not positive.
    """

    def __init__(
        self,
        items: Sequence[Mapping[str, Any]],
        group_by: str = "sequence",
        power: float = 0.5,
        length: int | None = None,
    ) -> None:
        if not 0 <= float(power) <= 1:
            raise InputError(f"balance_power={power}", "is not between 0 and 1", "pass 0 for no balance, 1 for full")
        if length is not None and int(length) < 1:
            raise InputError(f"epoch_length={length}", "is not a number of cases", "pass 1 or more")
        groups = [item.get(group_by) for item in items]
        counts = Counter(groups)
        super().__init__([counts[group] ** -float(power) for group in groups], int(length or len(groups)))

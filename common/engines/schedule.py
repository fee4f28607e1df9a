"""Learning-rate schedules by name, stepped once an epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from common.errors import InputError

__all__ = ["make_schedule"]

_WARM_UP = 0.1  # share of the epochs in which `cosine` rises


class _Plateau(ReduceLROnPlateau):
    """Lower the rate when the key metric stops to rise; epochs without a validation do not count."""

    def step(self, metrics: float | None, epoch: int | None = None) -> None:
        if metrics is not None:
            super().step(metrics)

    def score_of(self, validator: Engine) -> Callable[[Engine], Any]:
        """Return what MONAI's ``LrScheduleHandler`` calls to know the metric of the trainer's epoch."""

        def score(trainer: Engine) -> float | None:
            state = validator.state
            return state.metrics.get(state.key_metric_name) if state.epoch == trainer.state.epoch else None

        return score


class _ByEpoch(LambdaLR):
    """A rate that the number of the epoch tells."""

    def score_of(self, validator: Engine) -> Callable[[Engine], Any]:
        """Return what MONAI's ``LrScheduleHandler`` calls; this schedule needs no metric."""
        return lambda trainer: ()


def make_schedule(
    name: str,
    optimizer: torch.optim.Optimizer,
    max_epochs: int,
    patience: int = 10,
    factor: float = 0.5,
    milestones: Sequence[int] = (),
) -> _Plateau | _ByEpoch:
    """Make the schedule of that name.

    Args:
        name: ``plateau``: the rate is multiplied by ``factor`` when the key metric has not risen for ``patience``
            epochs (SAFNet paper, "Training environment"); ``step``: it is multiplied by ``factor`` every ``patience``
            epochs (PNS-Net, whose training FUnet follows); ``multistep``: it is multiplied by ``factor`` after each of
            ``milestones`` (the authors' program of SSHSNet); ``cosine``: it rises linearly over a tenth of the epochs,
            then falls along half a cosine to a hundredth.
        optimizer: whose rate it sets.
        max_epochs: the length of the training.
        patience: epochs.
        factor: below 1.
        milestones: numbers of epochs.

    Raises:
        InputError: another name, or ``multistep`` without milestones.
    """
    if name == "plateau":
        return _Plateau(optimizer, mode="max", patience=int(patience), factor=float(factor))
    if name == "step":
        return _ByEpoch(optimizer, lambda epoch: float(factor) ** (epoch // int(patience)))
    if name == "multistep":
        if not milestones:
            raise InputError("--schedule multistep", "has no milestones", "pass --lr_milestones, or another schedule")
        return _ByEpoch(optimizer, lambda epoch: float(factor) ** sum(epoch >= int(one) for one in milestones))
    if name == "cosine":
        warm = max(1, round(_WARM_UP * max_epochs))

        def share(epoch: int) -> float:
            if epoch < warm:
                return (epoch + 1) / (warm + 1)
            return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (epoch - warm) / max(1, max_epochs - warm)))

        return _ByEpoch(optimizer, share)
    raise InputError(f"--schedule {name}", "is not known", "choose multistep, plateau, step or cosine")

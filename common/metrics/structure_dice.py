"""Dice and naming per structure, counting only what a case's annotators drew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric, do_metric_reduction

__all__ = [
    "StructureDiceMetric",
    "VoxelAccuracyMetric",
    "dice_per_structure",
    "joint_histogram",
    "merged_dice",
    "named_right",
]


def joint_histogram(pred: torch.Tensor, reference: torch.Tensor, num_channels: int) -> torch.Tensor:
    """Count how often each reference channel meets each predicted channel.

    Args:
        pred: channel indices, any shape.
        reference: channel indices, the same shape.
        num_channels: C, the background included.

    Returns:
        Counts of shape (C, C), int64: rows are the reference, columns the prediction.

    Raises:
        ValueError: the shapes differ.
    """
    if pred.shape != reference.shape:
        raise ValueError(f"prediction and reference differ in shape: {tuple(pred.shape)} and {tuple(reference.shape)}")
    pair = reference.reshape(-1).long() * num_channels + pred.reshape(-1).to(reference.device).long()
    return torch.bincount(torch.Tensor(pair).long(), minlength=num_channels**2).reshape(num_channels, num_channels)


def dice_per_structure(histogram: torch.Tensor, drawn: torch.Tensor, absent: str = "blank") -> torch.Tensor:
    """Dice coefficient of each structure.

    Args:
        histogram: from :func:`joint_histogram`, (C, C).
        drawn: (C,) booleans: what the annotators drew.
        absent: what a structure gets that is drawn by the case's annotators, not in the reference, but predicted:
            ``blank`` (not counted) or ``zero`` (a false finding).

    Returns:
        (C - 1,) floats without the background; NaN where nothing is to be scored: not drawn, or in neither of the two.
    """
    counts = histogram.double()
    overlap, in_reference, predicted = counts.diagonal(), counts.sum(dim=1), counts.sum(dim=0)
    dice = 2 * overlap / (in_reference + predicted)  # 0 / 0 is NaN: in neither
    if absent == "blank":
        dice = dice.masked_fill(in_reference == 0, torch.nan)
    elif absent != "zero":
        raise ValueError(f"absent must be 'blank' or 'zero', got {absent!r}")
    return dice.masked_fill(~drawn.to(dice.device, torch.bool), torch.nan)[1:].float()


def merged_dice(histogram: torch.Tensor, drawn: torch.Tensor, channels: Sequence[int]) -> float:
    """Dice coefficient of several structures taken for one, such as all vertebrae: their names do not matter.

    Structures that nobody drew may lie where the reference has background: what is predicted as one of them there is
    not counted. On a structure that was drawn it is: a vertebra by another's name is a vertebra, a disc is none.

    Args:
        histogram: from :func:`joint_histogram`, (C, C).
        drawn: (C,) booleans: what the annotators drew.
        channels: those that are merged, without the background.

    Returns:
        The coefficient; NaN where none of them was drawn, or none is in either of the two.
    """
    counts, together = histogram.double().cpu(), list(channels)
    undrawn = [channel for channel in together if not bool(drawn[channel])]
    if len(undrawn) == len(together):
        return float("nan")
    overlap = counts[together][:, together].sum()
    in_reference = counts[together].sum()
    predicted = counts[:, together].sum() - counts[0, undrawn].sum()
    return float(2 * overlap / (in_reference + predicted))


def named_right(histogram: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """Tell whether each structure bears its right name: its commonest predicted structure is itself.

    Args:
        histogram: from :func:`joint_histogram`, (C, C).
        drawn: (C,) booleans.

    Returns:
        (C - 1,) floats: 1 right, 0 wrong or not found at all, NaN not drawn or not in the reference.
    """
    found = histogram[1:, 1:]
    own = torch.arange(len(found), device=found.device)
    right = ((found.argmax(dim=1) == own) & (found.diagonal() > 0)).float()
    scored = drawn.to(found.device, torch.bool)[1:] & (histogram[1:].sum(dim=1) > 0)
    return right.masked_fill(~scored, torch.nan)


class StructureDiceMetric(CumulativeIterationMetric):
    """Mean Dice over the structures that are drawn and present in the reference; then over the cases.

    Call it with lists (or batches) of predictions and references in channels, (1, X, Y, Z) each, and of ``drawn``, (C,)
    each.

    Args:
        num_channels: C, the background included.
        reduction: MONAI's metric reduction.
    """

    def __init__(self, num_channels: int, reduction: str = "mean") -> None:
        super().__init__()
        self.num_channels, self.reduction = num_channels, reduction

    def _compute_list(
        self, y_pred: Sequence[torch.Tensor], y: Sequence[torch.Tensor] | None = None, **kwargs: Any
    ) -> torch.Tensor:
        # MONAI's would hand on what all cases drew with each single case.
        if y is None:
            raise ValueError("a reference is needed")
        return torch.cat(
            [
                self._compute_tensor(one_pred.detach().unsqueeze(0), one_y.detach().unsqueeze(0), drawn=[one_drawn])
                for one_pred, one_y, one_drawn in zip(y_pred, y, kwargs["drawn"], strict=True)
            ]
        )

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        if y is None:
            raise ValueError("a reference is needed")
        drawn = kwargs["drawn"]
        return torch.stack(
            [
                dice_per_structure(joint_histogram(one_pred, one_y, self.num_channels), one_drawn)
                for one_pred, one_y, one_drawn in zip(y_pred, y, drawn, strict=True)
            ]
        )

    def aggregate(self, reduction: str | None = None) -> torch.Tensor:
        """Reduce what was collected; a scalar for ``mean``, 0 where no structure could be scored."""
        return do_metric_reduction(self.get_buffer(), reduction or self.reduction)[0]


class VoxelAccuracyMetric(StructureDiceMetric):
    """Share of voxels with the right channel: the text's "accuracy", which background dominates.

    A structure that was not drawn counts as right where the reference has background.
    """

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        if y is None:
            raise ValueError("a reference is needed")
        rows = []
        for one_pred, one_y, one_drawn in zip(y_pred, y, kwargs["drawn"], strict=True):
            histogram = joint_histogram(one_pred, one_y, self.num_channels)
            undrawn = ~one_drawn.to(histogram.device, torch.bool)
            undrawn[0] = False
            right = histogram.diagonal().sum() + histogram[0, undrawn].sum()
            rows.append((right / histogram.sum()).float().reshape(1))
        return torch.stack(rows)

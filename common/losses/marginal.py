"""Segmentation losses for data sets whose annotators drew only some of the structures."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.nn.functional import all_reduce

__all__ = ["MarginalLoss", "merge_undrawn"]


def merge_undrawn(logits: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """Add the probabilities of background and of the structures that were not drawn (marginal loss).

    Where a structure was not drawn, "background" in the label map means "background or that structure". After this, the
    softmax of channel 0 is the sum of the softmax of all of these, and the undrawn channels have probability 0.

    Args:
        logits: (B, C, ...), channel 0 is the background.
        drawn: (B, C) booleans: which structures the annotators of each case drew. Column 0 does not matter.

    Returns:
        Logits of the same shape.

    Source: Shi et al., "Marginal loss and exclusion loss for partially supervised multi-organ segmentation",
    Med Image Anal 70 (2021) 101979, section 3.2.
    """
    drawn = drawn.to(device=logits.device, dtype=torch.bool).clone()
    drawn[:, 0] = False
    merged = drawn.reshape(*drawn.shape, *[1] * (logits.ndim - 2))
    # finfo.min instead of -inf: exp() of it is 0 all the same, and a row without any other entry stays finite.
    lowest = torch.finfo(logits.dtype).min
    background = torch.logsumexp(logits.masked_fill(merged, lowest), dim=1, keepdim=True)
    structures = logits[:, 1:].masked_fill(~merged[:, 1:], lowest)
    return torch.cat([background, structures], dim=1)


def _sum_over_ranks(x: torch.Tensor) -> torch.Tensor:
    """Add what all processes have, with the gradient; the tensor itself where there is one process only."""
    many = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    return all_reduce(x) if many else x


class MarginalLoss(nn.Module):
    """Cross-entropy, and optionally soft Dice, on what a case's annotators drew.

    With everything drawn it is the ordinary loss.

    Args:
        form: ``softmax``: the usual cross-entropy. ``binary``: the formula that the SAFNet paper prints: binary
            cross-entropy of each class's probability, summed over the classes and divided by their number.
        dice_weight: how much of ``1 - soft Dice`` is added; the Dice is taken over the whole batch and averaged over
            the structures that are drawn and present in it. 0 in the paper.

    Raises:
        ValueError: ``form`` is neither of the two words, or the shapes of a call do not fit each other.
    """

    def __init__(self, form: str = "softmax", dice_weight: float = 0.0) -> None:
        super().__init__()
        if form not in ("softmax", "binary"):
            raise ValueError(f"form must be 'softmax' or 'binary', got {form!r}")
        self.form, self.dice_weight = form, float(dice_weight)

    def forward(self, logits: torch.Tensor, target: Mapping[str, torch.Tensor] | torch.Tensor) -> torch.Tensor:
        """Compute the loss, a scalar.

        Args:
            logits: (B, C, ...), any floating type; computed in float32.
            target: ``label``: channel of each voxel, (B, 1, ...); ``drawn``: (B, C) booleans. A plain tensor is taken
                for the label, with everything drawn.
        """
        label, drawn = (target["label"], target["drawn"]) if isinstance(target, Mapping) else (target, None)
        batch, channels = logits.shape[:2]
        if label.shape != (batch, 1, *logits.shape[2:]):
            raise ValueError(
                f"expected a label of shape {(batch, 1, *logits.shape[2:])} for logits of shape {tuple(logits.shape)}, "
                f"got {tuple(label.shape)}"
            )
        if drawn is None:
            drawn = torch.ones(batch, channels, dtype=torch.bool, device=logits.device)
        if drawn.shape != (batch, channels):
            raise ValueError(f"expected `drawn` of shape {(batch, channels)}, got {tuple(drawn.shape)}")
        drawn = drawn.to(logits.device)
        label = label.squeeze(1).long()
        # What was not drawn cannot be a target, even where a label map happens to hold it.
        label = label.where(
            drawn.scatter(1, drawn.new_zeros(batch, 1, dtype=torch.long), True)
            .gather(1, label.reshape(batch, -1))
            .reshape(label.shape),
            0,
        )
        merged = merge_undrawn(logits.float(), drawn)
        loss = F.cross_entropy(merged, label) if self.form == "softmax" else self._binary(merged, label)
        if self.dice_weight:
            loss = loss + self.dice_weight * self._dice(merged, label, drawn)
        return loss

    @staticmethod
    def _binary(merged: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        probability = merged.softmax(dim=1)
        wanted = torch.zeros_like(probability).scatter_(1, label.unsqueeze(1), 1.0)
        with torch.autocast(probability.device.type, enabled=False):  # CUDA's refuses this operation, in float32 too
            return F.binary_cross_entropy(probability, wanted)

    @staticmethod
    def _dice(merged: torch.Tensor, label: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        probability = merged.softmax(dim=1)[:, 1:].flatten(2)
        wanted = torch.zeros_like(merged).scatter_(1, label.unsqueeze(1), 1.0)[:, 1:].flatten(2)
        counted = drawn[:, 1:, None].to(probability.dtype)
        # Several processes that share a batch must divide by what the whole of it holds, not by their own part.
        overlap = _sum_over_ranks((probability * wanted * counted).sum(dim=(0, 2)))
        total = _sum_over_ranks(((probability + wanted) * counted).sum(dim=(0, 2)))
        present = (_sum_over_ranks((wanted * counted).sum(dim=(0, 2))) > 0).to(probability.dtype)
        dice = 2 * overlap / total.clamp_min(1e-6)
        return ((1 - dice) * present).sum() / present.sum().clamp_min(1.0)

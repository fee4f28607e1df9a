"""Dice and cross-entropy together, for data sets whose annotators drew only some of the structures."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from monai.losses import DiceCELoss
from torch import nn

from common.losses.marginal import merge_undrawn

__all__ = ["MarginalDiceCELoss"]


class MarginalDiceCELoss(nn.Module):
    """Soft Dice of each case and class, background included, plus cross-entropy, in equal parts.

    With everything drawn it is MONAI's ``DiceCELoss`` with a 1 added to numerator and denominator of each Dice: one
    more than the loss with which nnU-Net 1 and, in both stages, the authors' program of SSHSNet
    (https://arxiv.org/abs/2203.12151) train. A structure that was not drawn counts as background
    (:func:`common.losses.merge_undrawn`), and the Dice of its empty channel is 1, without a gradient.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loss = DiceCELoss(to_onehot_y=True, softmax=True, smooth_nr=1.0, smooth_dr=1.0)

    def forward(self, logits: torch.Tensor, target: Mapping[str, torch.Tensor] | torch.Tensor) -> torch.Tensor:
        """Compute the loss, a scalar.

        Args:
            logits: (B, C, ...), any floating type; computed in float32.
            target: ``label``: channel of each voxel, (B, 1, ...); ``drawn``: (B, C) booleans. A plain tensor is taken
                for the label, with everything drawn.

        Raises:
            ValueError: the shapes of logits and label do not fit each other.
        """
        logits = logits.float()
        if isinstance(target, Mapping):
            label, drawn = target["label"].long(), target["drawn"]
            # What was not drawn cannot be a target, even where a label map happens to hold it: it becomes 0.
            target = label * drawn.long().gather(1, label.flatten(1)).view_as(label)
            logits = merge_undrawn(logits, drawn)
        return self.loss(logits, target)

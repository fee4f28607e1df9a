"""Losses that the bundles share."""

from __future__ import annotations

from .dice_cross_entropy import MarginalDiceCELoss
from .marginal import MarginalLoss, merge_undrawn

__all__ = ["MarginalDiceCELoss", "MarginalLoss", "merge_undrawn"]

"""Losses that the bundles share."""

from __future__ import annotations

from .marginal import MarginalLoss, merge_undrawn

__all__ = ["MarginalLoss", "merge_undrawn"]

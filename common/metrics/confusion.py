"""Ratios of the counts in a confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from monai.metrics import compute_confusion_matrix_metric

__all__ = ["ratios"]


def ratios(confusion: np.ndarray, names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Return what follows from counts (..., 4) of true and false positives, true and false negatives; NaN for 0/0.

    Args:
        confusion: the counts, in MONAI's order.
        names: ours, and MONAI's.
    """
    counts = torch.from_numpy(np.asarray(confusion, np.float64))
    return {ours: compute_confusion_matrix_metric(monai, counts).numpy() for ours, monai in names.items()}

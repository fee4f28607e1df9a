"""How well the presence of something in an image is told."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from common.metrics.confusion import ratios
from common.metrics.frame_metric import FrameMetric

__all__ = [
    "CLASSIFICATION_SCORES",
    "ClassificationMetric",
    "ClassificationScores",
    "FramePresence",
    "precision_recall_curve",
    "roc_curve",
]

logger = logging.getLogger(__name__)

# Ours and MONAI's names of what follows from the confusion matrix.
_RATIOS = {
    "accuracy": "accuracy", "sensitivity": "tpr", "specificity": "tnr", "precision": "ppv", "F1": "f1", "FPR": "fpr",
    "FNR": "fnr", "NPV": "npv",
}  # fmt: skip
CLASSIFICATION_SCORES = ("AUROC", *_RATIOS)


class ClassificationScores:
    """The scores of one classifier on N images, of all or of any resample of them.

    AUROC (the BESS paper's primary measure; ties count half), and at a threshold accuracy, sensitivity, specificity,
    precision, F1, FPR, FNR and NPV. What has nothing to be measured on is NaN: AUROC where there is one class only,
    precision where nothing is called positive, and so on.

    It is a :data:`common.metrics.bootstrap.Statistic`. MONAI's ``compute_roc_auc`` gives the same of one set of images,
    one image after another, which is too slow for thousands of resamples.

    Args:
        probabilities: that it is present, (N,).
        present: whether it is, (N,).
        threshold: from which probability on it is called present.
        called: whether it is called present, (N,), where something else decides than the threshold.

    Raises:
        ValueError: these differ in length, are empty, or a probability is not a number.
    """

    def __init__(
        self,
        probabilities: Sequence[float],
        present: Sequence[bool],
        threshold: float = 0.5,
        called: Sequence[bool] | None = None,
    ) -> None:
        self.probabilities, self.present = _checked(probabilities, present)
        self.called = self.probabilities >= threshold if called is None else np.asarray(called, bool)
        if self.called.shape != self.present.shape:
            raise ValueError(f"expected {len(self.present)} decisions, got {self.called.shape}")
        self._order, self._starts = _ties(self.probabilities)

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return the scores of resamples.

        Args:
            weights: how often each image counts, (B, N).

        Returns:
            (B,) for each of ``CLASSIFICATION_SCORES``.
        """
        called, present = self.called, self.present
        confusion = np.stack(
            [weights @ part.astype(np.float64) for part in
             (called & present, called & ~present, ~called & ~present, ~called & present)], axis=-1,
        )  # fmt: skip
        return {"AUROC": self._auroc(weights)} | ratios(confusion, _RATIOS)

    def values(self) -> dict[str, float]:
        """Return the scores of all images; a log line tells why there is none where a class is missing."""
        if self.present.all() or not self.present.any():
            which = "negatives" if self.present.all() else "positives"
            logger.warning("There are no %s: AUROC and what else needs both classes are not defined", which)
        return {name: float(value[0]) for name, value in self(np.ones((1, len(self.present)))).items()}

    def _auroc(self, weights: np.ndarray) -> np.ndarray:
        # In the order of probabilities, those that tie added up.
        positives, negatives = (
            np.add.reduceat((weights * part)[:, self._order], self._starts, axis=1)
            for part in (self.present, ~self.present)
        )
        below = negatives.cumsum(axis=1) - negatives / 2
        pairs = positives.sum(axis=1) * negatives.sum(axis=1)
        with np.errstate(invalid="ignore"):
            return (positives * below).sum(axis=1) / np.where(pairs > 0, pairs, np.nan)


def roc_curve(probabilities: Sequence[float], present: Sequence[bool]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the points of the receiver operating characteristic.

    Args:
        probabilities: (N,).
        present: (N,).

    Returns:
        False positive rate, sensitivity and threshold (called positive from there on), K + 1 each for K different
        probabilities, from (0, 0) at infinity to (1, 1). A rate without its class is NaN.

    Raises:
        ValueError: see :class:`ClassificationScores`.
    """
    tp, fp, thresholds = _cumulated(probabilities, present)
    with np.errstate(invalid="ignore"):
        return fp / fp[-1], tp / tp[-1], thresholds


def precision_recall_curve(
    probabilities: Sequence[float], present: Sequence[bool]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the points of the precision-recall curve.

    Args:
        probabilities: (N,).
        present: (N,).

    Returns:
        Precision, recall and threshold (called positive from there on), K each for K different probabilities, by rising
        recall. Without positives recall is NaN.

    Raises:
        ValueError: see :class:`ClassificationScores`.
    """
    tp, fp, thresholds = (part[1:] for part in _cumulated(probabilities, present))
    with np.errstate(invalid="ignore"):
        return tp / (tp + fp), tp / tp[-1], thresholds


def _checked(probabilities: Sequence[float], present: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    p, y = np.asarray(probabilities, np.float64), np.asarray(present) > 0
    if p.ndim != 1 or p.shape != y.shape or not len(p):
        raise ValueError(f"expected N probabilities and N classes, got {p.shape} and {y.shape}")
    if np.isnan(p).any():
        raise ValueError("a probability is not a number")
    return p, y


def _ties(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the order of rising probability, and where in it each different value begins."""
    order = probabilities.argsort(kind="stable")
    ordered = probabilities[order]
    return order, np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))


def _cumulated(probabilities: Sequence[float], present: Sequence[bool]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how many true and false positives there are from each threshold on, from infinity down."""
    p, y = _checked(probabilities, present)
    order, starts = _ties(p)
    counts = [np.add.reduceat(part[order].astype(np.float64), starts)[::-1] for part in (y, ~y)]
    tp, fp = (np.concatenate([[0.0], part.cumsum()]) for part in counts)
    return tp, fp, np.concatenate([[np.inf], p[order][starts][::-1]])


@dataclass(frozen=True)
class FramePresence:
    """What a classifier said of N frames.

    Args:
        numbers: of the frames, (N,), rising.
        probabilities: that it is present, (N,).
        present: whether it is, (N,).
    """

    numbers: np.ndarray
    probabilities: np.ndarray
    present: np.ndarray

    def scores(self, threshold: float = 0.5) -> ClassificationScores:
        """Return what gives the scores at a threshold."""
        return ClassificationScores(self.probabilities, self.present, threshold)


class ClassificationMetric(FrameMetric):
    """Collect what a classifier says of frames: probabilities and references, (B,), (B, 1) or lists of B of one value.

    Args:
        score: which of ``CLASSIFICATION_SCORES`` :meth:`aggregate` gives.
        threshold: from which probability on it is called present.

    Raises:
        ValueError: there is no such score.
    """

    SCORES = CLASSIFICATION_SCORES

    def __init__(self, score: str = "AUROC", threshold: float = 0.5) -> None:
        super().__init__(score, threshold)

    def _of_frames(self, y_pred: Sequence[torch.Tensor], y: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        columns = []
        for values in (y_pred, y):
            plain = [value.as_tensor() if isinstance(value, MetaTensor) else torch.as_tensor(value) for value in values]
            columns.append(torch.stack([value.detach().double().reshape(()) for value in plain]))
        return [column.to(columns[0].device) for column in columns]

    def collected(self) -> FramePresence | None:
        """Return what was collected by frame, over all processes; None where that is nothing."""
        frames = self._unique()
        if frames is None:
            return None
        numbers, probabilities, present = frames
        return FramePresence(numbers, probabilities, present > 0.5)

    def aggregate(self, reduction: Any = None) -> torch.Tensor:
        """Return the score that was chosen, a scalar; NaN where it is not defined."""
        collected = self.collected()
        if collected is None:
            return torch.tensor(float("nan"))
        return torch.tensor(collected.scores(self.threshold).values()[self.score])

"""How well something is segmented in single images, with and without a classifier that decides where to look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor

from common.metrics.confusion import ratios
from common.metrics.frame_metric import FrameMetric

__all__ = ["SEGMENTATION_SCORES", "FrameCounts", "FrameSegmentationMetric", "SegmentationScores",
           "average_precision"]  # fmt: skip

# Ours and MONAI's names of what follows from a frame's confusion matrix.
_RATIOS = {
    "DSC": "f1", "IoU": "ts", "accuracy": "accuracy", "sensitivity": "tpr", "specificity": "tnr", "precision": "ppv",
    "FPR": "fpr", "FNR": "fnr",
}  # fmt: skip
SEGMENTATION_SCORES = (*_RATIOS, "AUPRC", "frame_FPR", "frame_FNR", "negative_pixel_FPR")

# Networks press probabilities against 0 and 1, where even steps would tie most pixels: the steps are even in the logit.
_BINS, _LIMIT = 512, 16.0


@dataclass(frozen=True)
class FrameCounts:
    """What is counted of N frames; all scores follow from it.

    Args:
        numbers: of the frames, (N,), rising.
        confusion: (N, 4), pixels that are true and false positives, true and false negatives at the threshold.
        histograms: (N, 2, L), pixels outside and inside the reference by the logit of their probability.
    """

    numbers: np.ndarray
    confusion: np.ndarray
    histograms: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def present(self) -> np.ndarray:
        """Whether the reference of each frame holds anything, (N,)."""
        return self.confusion[:, 0] + self.confusion[:, 3] > 0

    @property
    def marked(self) -> np.ndarray:
        """Whether the mask of each frame holds anything, (N,)."""
        return self.confusion[:, 0] + self.confusion[:, 1] > 0

    @property
    def largest_probabilities(self) -> np.ndarray:
        """The probability of each frame's most probable pixel, (N,), in the histograms' steps (the step's middle)."""
        filled = self.histograms.sum(axis=1) > 0
        last = filled.shape[1] - 1 - filled[:, ::-1].argmax(axis=1)
        return 1 / (1 + np.exp(_LIMIT - (last + 0.5) * (2 * _LIMIT / _BINS)))

    def only(self, chosen: np.ndarray) -> FrameCounts:
        """Return the frames for which an (N,) array is true."""
        chosen = np.asarray(chosen, bool)
        return FrameCounts(self.numbers[chosen], self.confusion[chosen], self.histograms[chosen])

    def gated(self, opened: np.ndarray) -> FrameCounts:
        """Return the frames as they come out behind a classifier.

        Args:
            opened: (N,), whether a frame is segmented; the others have an empty mask, of probability 0.
        """
        opened = np.asarray(opened, bool)
        if opened.shape != self.numbers.shape:
            raise ValueError(f"{len(self)} frames cannot have {opened.shape} decisions")
        tp, fp, tn, fn = self.confusion.T
        empty = np.stack([np.zeros_like(tp), np.zeros_like(fp), tn + fp, fn + tp], axis=1)
        lowest = np.zeros_like(self.histograms)
        lowest[..., 0] = self.histograms.sum(axis=-1)
        return replace(
            self,
            confusion=np.where(opened[:, None], self.confusion, empty),
            histograms=np.where(opened[:, None, None], self.histograms, lowest),
        )

    def precision_recall(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the points of the precision-recall curve of all frames' pixels together.

        Returns:
            Precision, recall and the probability from which on pixels are positive, by rising recall; those without
            any positive pixel are left out. NaN in recall where the references are empty.
        """
        fp, tp = (part.cumsum() for part in self.histograms.sum(axis=0, dtype=np.float64)[:, ::-1])
        edges = np.append(-np.inf, np.linspace(-_LIMIT, _LIMIT, _BINS + 1)[1:-1])[::-1]
        some = tp + fp > 0
        with np.errstate(invalid="ignore"):
            return (tp / (tp + fp))[some], (tp / tp[-1])[some], (1 / (1 + np.exp(-edges)))[some]


class SegmentationScores:
    """The scores of one segmentation of N frames, of all or of any resample of them.

    Of each frame, then the mean over the frames where it is defined (the BESS paper does not say so, but its DSC and
    IoU are no pair of one confusion matrix):

    - DSC (the primary measure) and IoU. Where reference and mask are both empty they are ``both_empty``.
    - accuracy.
    - sensitivity, FNR: not of frames with an empty reference.
    - specificity, FPR: not of frames that the reference covers.
    - precision: 0 where the mask is empty and the reference is not; not of frames where both are.

    Of all frames together:

    - AUPRC: average precision over all pixels, their probabilities in steps of 1/16 in the logit.
    - frame_FPR: share of the frames with an empty reference that have any mask; frame_FNR: share of the others that
      have none.
    - negative_pixel_FPR: mean FPR of the frames with an empty reference.

    What is not defined on any frame is NaN. It is a :data:`common.metrics.bootstrap.Statistic`.

    Three evaluations of a pipeline of two stages belong together: ``counts.only(counts.present)`` (the second stage by
    itself, on positives), ``counts`` (on all frames), ``counts.gated(...)`` (both stages).

    Args:
        counts: of the frames.
        both_empty: 1, or NaN to leave such frames out.

    Raises:
        ValueError: there are no frames.
    """

    def __init__(self, counts: FrameCounts, both_empty: float = 1.0) -> None:
        if not len(counts):
            raise ValueError("there are no frames")
        tp, fp, _, fn = counts.confusion.T
        scores = ratios(counts.confusion, _RATIOS)
        for name in ("DSC", "IoU"):
            scores[name] = np.where(tp + fp + fn == 0, both_empty, scores[name])
        present, marked = counts.present, counts.marked
        scores["precision"] = np.where(present & ~marked, 0.0, scores["precision"])
        scores["precision"] = np.where(~present & ~marked, np.nan, scores["precision"])
        self._scores = scores | {
            "frame_FPR": np.where(present, np.nan, marked),
            "frame_FNR": np.where(present, ~marked, np.nan),
            "negative_pixel_FPR": np.where(present, np.nan, scores["FPR"]),
        }
        self._histograms = counts.histograms.reshape(len(counts), -1).astype(np.float64)

    @property
    def frames(self) -> dict[str, np.ndarray]:
        """The scores of each frame, (N,) by name, NaN where not defined; there is no AUPRC among them."""
        return dict(self._scores)

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return the scores of resamples.

        Args:
            weights: how often each frame counts, (B, N).

        Returns:
            (B,) for each of ``SEGMENTATION_SCORES``.
        """
        found = {name: _mean(weights, values) for name, values in self._scores.items()}
        found["AUPRC"] = average_precision((weights @ self._histograms).reshape(len(weights), 2, -1))
        return {name: found[name] for name in SEGMENTATION_SCORES}

    def values(self) -> dict[str, float]:
        """Return the scores of all frames."""
        return {name: float(value[0]) for name, value in self(np.ones((1, self._histograms.shape[0]))).items()}


def _mean(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    defined = ~np.isnan(values)
    total = weights @ defined.astype(np.float64)
    return (weights @ np.where(defined, values, 0.0)) / np.where(total > 0, total, np.nan)


def average_precision(histograms: np.ndarray) -> np.ndarray:
    """Compute average precisions: sums of precision times gain in recall, from the highest probability down.

    Args:
        histograms: (B, 2, L): of each of B sets, how many pixels outside and inside the reference have a probability
            in each of L steps, the lowest first.

    Returns:
        (B,), NaN where a set has no pixel inside.
    """
    outside, inside = histograms[..., ::-1].swapaxes(0, 1)
    fp, tp = outside.cumsum(axis=-1), inside.cumsum(axis=-1)
    precision = tp / np.where(tp + fp > 0, tp + fp, 1.0)
    positives = tp[:, -1]
    return (inside * precision).sum(axis=-1) / np.where(positives > 0, positives, np.nan)


class FrameSegmentationMetric(FrameMetric):
    """Collect what a segmentation network says of frames: probabilities (B, 1, h, w) and references (B, 1, H, W).

    Probabilities are brought to the reference's size (bilinear), then compared with the threshold; references are
    foreground above 0.5. Let the network run on all frames: what a classifier changes follows from the counts
    (:meth:`FrameCounts.gated`).

    Args:
        score: which of ``SEGMENTATION_SCORES`` :meth:`aggregate` gives, of the positives.
        threshold: from which probability on a pixel is foreground.

    Raises:
        ValueError: there is no such score.
    """

    SCORES = SEGMENTATION_SCORES

    def __init__(self, score: str = "DSC", threshold: float = 0.5) -> None:
        super().__init__(score, threshold)

    def _of_frames(self, y_pred: Sequence[torch.Tensor], y: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        counts = [_counts(*frame, self.threshold) for frame in zip(y_pred, y, strict=True)]
        return [torch.stack(part) for part in zip(*counts, strict=True)]

    def collected(self) -> FrameCounts | None:
        """Return what was collected by frame, over all processes; None where that is nothing."""
        frames = self._unique()
        return None if frames is None else FrameCounts(*frames)

    def aggregate(self, reduction: Any = None) -> torch.Tensor:
        """Return the score that was chosen, a scalar, of the frames with a reference that is not empty."""
        counts = self.collected()
        if counts is None or not counts.present.any():
            return torch.tensor(float("nan"))
        return torch.tensor(SegmentationScores(counts.only(counts.present)).values()[self.score])


def _counts(
    probabilities: torch.Tensor, reference: torch.Tensor, threshold: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a frame's confusion (4,) and histograms (2, L)."""
    p, y = (part.as_tensor() if isinstance(part, MetaTensor) else part for part in (probabilities, reference))
    if p.ndim != 3 or y.ndim != 3 or len(p) != 1 or len(y) != 1:
        raise ValueError(f"expected (1, H, W), got prediction {tuple(p.shape)} and reference {tuple(y.shape)}")
    p = p.detach().float()
    if p.shape != y.shape:
        p = F.interpolate(p[None], y.shape[-2:], mode="bilinear", align_corners=False)[0]
    p, inside = p.flatten(), y.to(p.device).flatten() > 0.5
    if p.isnan().any():
        raise ValueError("a probability is not a number")
    positive = p >= threshold
    confusion = torch.stack(
        [(a & b).sum() for a, b in ((positive, inside), (positive, ~inside), (~positive, ~inside), (~positive, inside))]
    )
    logit = torch.logit(p.double()).clamp(-_LIMIT, _LIMIT)
    bins = ((logit + _LIMIT) * (_BINS / (2 * _LIMIT))).long().clamp(max=_BINS - 1)
    histograms = torch.bincount(inside * _BINS + bins, minlength=2 * _BINS).reshape(2, _BINS)
    return confusion, histograms.int()

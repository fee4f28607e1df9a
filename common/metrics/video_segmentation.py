"""Measures of segmented video, as the video polyp segmentation benchmarks define them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.metrics import CumulativeIterationMetric, compute_dice

__all__ = ["CURVES", "LEVELS", "SCORES", "VideoScores", "VideoSegmentationMetric", "curve_scores", "flicker"]

SCORES = ("maxDice", "maxIoU", "meanSpe", "maxSpe", "meanSen", "MAE", "Dice")
CURVES = ("Dice", "IoU", "specificity", "sensitivity")

LEVELS = 256  # thresholds 0/255 to 255/255


@dataclass(frozen=True)
class VideoScores:
    """Scores of a data set and of its sequences, by the names in ``SCORES``.

    Args:
        overall: of all sequences together; NaN where there is none to score.
        sequences: of each sequence on its own, by its number.
        unscored: numbers of the sequences that have no frame but their ends; they count nowhere.
    """

    overall: Mapping[str, float]
    sequences: Mapping[int, Mapping[str, float]]
    unscored: Sequence[int]


class VideoSegmentationMetric(CumulativeIterationMetric):
    """Dice, IoU, specificity and sensitivity over 256 thresholds, and MAE, of PNS-Net's evaluation.

    Ji et al., "Progressively normalized self-attention network for video polyp segmentation" (MICCAI 2021), whose
    protocol FUnet and PNS+ share. For each frame:

    1. The probabilities are written in 8 bit, truncated; resized to the reference's size (bilinear, as in PNS+'s
       evaluation; again 8 bit); and stretched to 0..1. A map of one value stays as it is.
    2. At each threshold k/255, all pixels of p >= k/255 are positive. Without a true positive all four measures are 0,
       the specificity too, also where the reference is empty.
    3. MAE is the mean of |p - g|, with the stretched p.

    Then the first and the last frame of each sequence are left out, a sequence's curve over the thresholds is the mean
    of its frames', the data set's the mean of its sequences'; ``max`` and ``mean`` are taken of that curve. So a
    specificity here is not the usual one: at threshold 0 it is 0, and missed frames lower it.

    Beside these, ``Dice`` is MONAI's at 0.5, with plain probabilities at the reference's size, averaged over the same
    frames, then sequences; frames with an empty reference do not count there.

    Call it with probabilities and references, batches (B, T, 1, H, W) and (B, T, 1, h, w) of clips or lists of such
    clips, and with ``sequence`` (B numbers), ``frames`` (B times T indices) and ``keep`` (B times T booleans; without
    it, all): what is not kept does not count, and a frame that comes twice counts once. References count as foreground
    above 0.5. The order does not matter, nor which process sees what. Sequences must come whole: their ends are the
    lowest and the highest index that came.

    Args:
        score: which of ``SCORES`` :meth:`aggregate` gives.
        drop_ends: leave out each sequence's first and last frame.

    Raises:
        ValueError: there is no such score.
    """

    def __init__(self, score: str = "maxDice", drop_ends: bool = True) -> None:
        super().__init__()
        if score not in SCORES:
            raise ValueError(f"score must be one of {', '.join(SCORES)}, got {score!r}")
        self.score, self.drop_ends = score, drop_ends

    def _compute_list(
        self, y_pred: Sequence[torch.Tensor], y: Sequence[torch.Tensor] | None = None, **kwargs: Any
    ) -> list[torch.Tensor]:
        if y is None:
            raise ValueError("a reference is needed")
        sequence, frames = kwargs["sequence"], kwargs["frames"]
        keep = kwargs.get("keep")
        rows = [
            _rows(*clip) for clip in zip(
                y_pred, y, sequence, frames, [None] * len(y) if keep is None else keep, strict=True
            )
        ]  # fmt: skip
        return [torch.cat(part) for part in zip(*rows, strict=True)]

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> list[torch.Tensor]:
        return self._compute_list(y_pred, y, **kwargs)

    def curves(self) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
        """Return for each sequence its curves and its means.

        Returns:
            By number: (4, 256), float64, ``CURVES`` at thresholds 0/255 to 255/255; and (2,), MAE and Dice at 0.5.
            Sequences without a frame to score have NaN.
        """
        rows, histograms, means = self._scored()
        return {
            sequence: (_curves(histograms[chosen]).mean(dim=0), means[chosen].nanmean(dim=0))
            for sequence, chosen in ((sequence, list(frames.values())) for sequence, frames in rows.items())
        }

    def frame_dices(self) -> dict[int, dict[int, float]]:
        """Return Dice at 0.5 of each frame that counts, by sequence and frame; NaN where nothing is drawn."""
        rows, _, means = self._scored()
        return {
            sequence: {frame: float(means[row, 1]) for frame, row in frames.items()}
            for sequence, frames in rows.items()
        }

    def _scored(self) -> tuple[dict[int, dict[int, int]], torch.Tensor, torch.Tensor]:
        """Return by sequence and frame, in order, the rows of those that count; histograms and means of all rows."""
        buffer = self.get_buffer()
        if buffer is None:
            return {}, torch.empty(0), torch.empty(0)
        places, histograms, means = (part.cpu() for part in buffer)
        # A frame comes twice where there are fewer cases than processes, or clips overlap.
        last = {tuple(place): row for row, place in enumerate(places.tolist())}
        frames_of: dict[int, dict[int, int]] = {}
        for (sequence, frame), row in sorted(last.items()):
            frames_of.setdefault(sequence, {})[frame] = row
        ends = slice(1, -1) if self.drop_ends else slice(None)
        chosen = {sequence: dict(list(rows.items())[ends]) for sequence, rows in frames_of.items()}
        return chosen, histograms, means

    def scores(self) -> VideoScores:
        """Return all scores of what was collected, over all processes."""
        curves = self.curves()
        scored = {sequence: parts for sequence, parts in curves.items() if not parts[0].isnan().any()}
        unscored = sorted(set(curves) - set(scored))
        sequences = {sequence: curve_scores(*parts) for sequence, parts in scored.items()}
        if not scored:
            return VideoScores(dict.fromkeys(SCORES, float("nan")), sequences, unscored)
        overall = [torch.stack(parts) for parts in zip(*scored.values(), strict=True)]
        return VideoScores(curve_scores(overall[0].mean(dim=0), overall[1].nanmean(dim=0)), sequences, unscored)

    def aggregate(self, reduction: Any = None) -> torch.Tensor:
        """Return the score that was chosen, a scalar."""
        return torch.tensor(self.scores().overall[self.score])


def _rows(
    probabilities: torch.Tensor, reference: torch.Tensor, sequence: Any, frames: Any, keep: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return for each kept frame of a clip (sequence, frame), histograms (2, 256) outside and inside, (MAE, Dice)."""
    probabilities, reference = (
        part.as_tensor() if isinstance(part, MetaTensor) else part for part in (probabilities, reference)
    )
    if probabilities.ndim != 4 or reference.ndim != 4 or not len(probabilities) == len(reference) == len(frames):
        raise ValueError(
            f"expected clips (T, 1, H, W) with T frame numbers, got prediction {tuple(probabilities.shape)}, "
            f"reference {tuple(reference.shape)} and {len(frames)} numbers"
        )
    device = probabilities.device
    kept = torch.ones(len(frames), dtype=torch.bool) if keep is None else torch.as_tensor(keep).bool().cpu()
    probabilities = probabilities.detach().float()[kept.to(device)]
    reference = reference[kept.to(reference.device)].to(device) > 0.5
    numbers = torch.as_tensor(frames).cpu()[kept].long()
    places = torch.stack([torch.full_like(numbers, int(sequence)), numbers], dim=1)
    size = reference.shape[-2:]
    histograms, errors = zip(
        *map(_histograms, _eight_bit(probabilities, size).cpu().flatten(1), reference.cpu().flatten(1)), strict=True
    )
    smooth = F.interpolate(probabilities, size, mode="bilinear", align_corners=False)
    dice = compute_dice(smooth >= 0.5, reference)[:, 0].float()
    means = torch.stack([torch.stack(errors).to(device), dice], dim=1)
    return places.to(device), torch.stack(histograms).to(device), means


def _eight_bit(probabilities: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Return probabilities as the integers 0..255 that the reference is compared with, (T, 1, h, w)."""
    levels = (probabilities * 255).to(torch.uint8)
    if levels.shape[-2:] == size:
        return levels.long()
    return (F.interpolate(levels.float(), size, mode="bilinear", align_corners=False) + 0.5).long()


def _histograms(levels: torch.Tensor, reference: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how often each floor(255 p) occurs outside and inside the reference (2, 256), and MAE; p is stretched.

    Args:
        levels: 0..255, one dimension.
        reference: booleans, the same shape.
    """
    counts = torch.bincount(reference * LEVELS + levels, minlength=2 * LEVELS).reshape(2, LEVELS)
    low, high = int(levels.min()), int(levels.max())
    low, span = (low, high - low) if high > low else (0, LEVELS - 1)
    # In whole numbers p >= k/255 holds exactly when the floor does, which rounding would spoil.
    above = (torch.arange(LEVELS) - low).clamp(0, span)
    histogram = torch.zeros_like(counts).index_add_(1, (LEVELS - 1) * above // span, counts)
    off = torch.stack([above, span - above])
    return histogram.int(), ((counts * off).sum().double() / (span * len(levels))).float()


def _curves(histograms: torch.Tensor) -> torch.Tensor:
    """Return Dice, IoU, specificity and sensitivity (N, 4, 256) of frames from their histograms (N, 2, 256)."""
    outside, inside = histograms.long().unbind(dim=1)
    # Positive at threshold k is what lies in the bins from k on.
    fp, tp = (part.flip(-1).cumsum(dim=-1).flip(-1).double() for part in (outside, inside))
    fn, tn = inside.sum(dim=-1, keepdim=True) - tp, outside.sum(dim=-1, keepdim=True) - fp
    curves = torch.stack([2 * tp / (2 * tp + fp + fn), tp / (tp + fp + fn), tn / (tn + fp), tp / (tp + fn)], dim=1)
    # A reference that covers the whole frame leaves nothing to be specific about: 0/0.
    return curves.where(tp[:, None] > 0, 0.0).nan_to_num(0.0)


def curve_scores(curves: torch.Tensor, means: torch.Tensor) -> dict[str, float]:
    """Return the scores of a sequence, or of a set, by the names in ``SCORES``.

    Args:
        curves: (4, 256), ``CURVES``.
        means: (2,), MAE and Dice at 0.5.
    """
    dice, iou, specificity, sensitivity = curves
    error, dice_at_half = means
    values = (dice.max(), iou.max(), specificity.mean(), specificity.max(), sensitivity.mean(), error, dice_at_half)
    return dict(zip(SCORES, map(float, values), strict=True))


def flicker(masks: torch.Tensor) -> float:
    """Return how much masks change from frame to frame: the mean of 1 - IoU of consecutive ones.

    Two empty masks do not differ.

    Args:
        masks: booleans or 0 and 1, (L, H, W) or (L, 1, H, W), in time order.

    Returns:
        0 (still) to 1; NaN for fewer than two frames.
    """
    drawn = torch.as_tensor(masks).flatten(1) > 0
    both, either = ((drawn[1:] & drawn[:-1]).sum(dim=1), (drawn[1:] | drawn[:-1]).sum(dim=1))
    return float(torch.where(either > 0, 1 - both / either, 0.0).mean())

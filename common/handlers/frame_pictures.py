"""Curves and panels of an evaluation of a two-stage pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from common.data.frames import LabelledFrame, read_frame, read_mask
from common.metrics import FrameResults, SegmentationScores, roc_curve
from common.visualize.comparison_panel import PanelMask, PanelRow
from common.visualize.curves import Curve, precision_recall_figure, roc_figure, save_figure

__all__ = ["panel_rows", "random_frames", "save_curves", "worst_frames"]

# Gives the mask of a frame by its id and size, (H, W); None where it is not known.
MaskOf = Callable[[str, tuple[int, int]], np.ndarray | None]


def random_frames(results: FrameResults, count: int, seed: int) -> list[int]:
    """Return places of frames by chance, as many positives as negatives where there are enough of both.

    Args:
        results: of the frames.
        count: how many at most.
        seed: of the choice.

    Returns:
        Positives first.
    """
    order = np.random.default_rng(seed).permutation(len(results))
    present = results.counts.present[order]
    positives, negatives = order[present], order[~present]
    few = min(len(negatives), count // 2)
    many = min(len(positives), count - few)
    return [int(at) for at in (*sorted(positives[:many]), *sorted(negatives[: count - many]))]


def worst_frames(results: FrameResults, count: int) -> list[int]:
    """Return places of the frames with the lowest end-to-end DSC, false alarms included, the worst first.

    Among those of the same DSC, as missed frames and false alarms are (0), it is the share of pixels that are wrong.
    """
    gated = results.counts.gated(results.opened())
    _, fp, _, fn = gated.confusion.T
    wrong = (fp + fn) / gated.confusion.sum(axis=1)
    order = np.lexsort((np.arange(len(results)), -wrong, _dice(results)))
    return [int(at) for at in order[:count]]


def panel_rows(
    places: Sequence[int], frames: Sequence[LabelledFrame], models: Sequence[tuple[FrameResults, MaskOf]]
) -> list[PanelRow]:
    """Read what a panel shows.

    Args:
        places: of the frames in the results.
        frames: of the data set, by the number that the first results have.
        models: results of the same frames in the same order, and masks.
    """
    dices = [_dice(results) for results, _ in models]
    rows = []
    for at in places:
        results = models[0][0]
        frame = frames[results.counts.numbers[at]]
        picture = read_frame(frame.image)
        size = picture.shape[:2]
        reference = np.zeros(size, bool) if frame.mask is None else read_mask(frame.mask, size)
        masks = [
            PanelMask(
                mask_of(frame.id, size), bool(found.opened()[at]), float(found.presence.probabilities[at]), dice[at]
            )
            for (found, mask_of), dice in zip(models, dices, strict=True)
        ]
        rows.append(PanelRow(frame.id, picture, reference, masks))
    return rows


def save_curves(folder: Path, models: Sequence[tuple[str, FrameResults]]) -> None:
    """Write ``roc.png`` and ``pr.png``, of what there is: a curve needs its classes.

    Args:
        folder: where to.
        models: names and results of the same frames.

    Raises:
        InputError: they cannot be written.
    """
    roc, pr = folder / "roc.png", folder / "pr.png"
    for path in (roc, pr):  # those of an evaluation of other frames
        path.unlink(missing_ok=True)
    present, positive = models[0][1].presence.present, models[0][1].counts.present
    if present.any() and not present.all():
        save_figure(roc, roc_figure([_roc(name, results) for name, results in models]))
    if positive.any():
        tp, fp, tn, fn = models[0][1].counts.only(positive).confusion.sum(axis=0)
        share = (tp + fn) / (tp + fp + tn + fn)
        save_figure(pr, precision_recall_figure([_precision_recall(*model) for model in models], share))


def _roc(name: str, results: FrameResults) -> Curve:
    presence = results.presence
    fpr, sensitivity, _ = roc_curve(presence.probabilities, presence.present)
    scores = presence.scores(results.gate_threshold).values()
    return Curve(name, fpr, sensitivity, scores["AUROC"], (scores["FPR"], scores["sensitivity"]))


def _precision_recall(name: str, results: FrameResults) -> Curve:
    counts = results.counts.only(results.counts.present)
    precision, recall, _ = counts.precision_recall()
    tp, fp, _, fn = counts.confusion.sum(axis=0)
    point = (tp / (tp + fn), tp / (tp + fp)) if tp + fp else None
    return Curve(name, recall, precision, SegmentationScores(counts).values()["AUPRC"], point)


def _dice(results: FrameResults) -> np.ndarray:
    return SegmentationScores(results.counts.gated(results.opened())).frames["DSC"]

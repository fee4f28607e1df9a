"""What a gate lets pass and what it costs, at every threshold, from the results of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.metrics import FrameResults, SegmentationScores, Statistic

__all__ = ["MEASURES", "Gate", "TradeOff"]

# All are means over the frames on which they are defined; those of `SHARES` count frames.
SHARES = ("sensitivity", "specificity", "frame_FPR", "frame_FNR", "passed")
MEASURES = (*SHARES, "DSC", "DSC_positives")


@dataclass(frozen=True)
class Gate:
    """What one threshold does.

    Args:
        values: by measure.
        counts: of each share, how many frames have it, and of how many.
        statistic: gives the measures of resamples.
    """

    values: dict[str, float]
    counts: dict[str, tuple[int, int]]
    statistic: Statistic


class TradeOff:
    """The measures of a pipeline at each threshold of its gate.

    A frame has one mask where the gate is open for it and an empty one where it is closed, so that what it contributes
    to each measure is one of two numbers, and no network has to run again:

    - ``sensitivity``, ``specificity``: of the gate by itself, on the frames that are stated as positives and negatives.
      Lost are the positives that it closes: 1 - sensitivity.
    - ``frame_FPR``: false alarms, share of the frames with an empty reference that have a mask in the end.
    - ``frame_FNR``: share of the others that have none, closed or not found.
    - ``passed``: share of all frames that pass, on which the segmenter has to run.
    - ``DSC``: end to end, mean over all frames, 1 where reference and mask are both empty; ``DSC_positives``: of those
      with a reference only.

    Args:
        results: of the evaluation, of positives and negatives.

    Attributes:
        thresholds: 0, at which all frames pass, all probabilities, and 1; rising, (K,). Any other one decides as the
            next of them does.
        frames: how many there are.
        positives: how many of them are stated as such.
    """

    def __init__(self, results: FrameResults) -> None:
        self.probabilities = np.asarray(results.presence.probabilities, np.float64)
        self.thresholds = np.unique([0.0, *self.probabilities, 1.0])
        present, drawn = np.asarray(results.presence.present) > 0, results.counts.present
        whole = np.ones(len(results), bool)
        self.frames, self.positives = len(results), int(present.sum())
        of = {
            "sensitivity": present, "specificity": ~present, "frame_FPR": ~drawn, "frame_FNR": drawn, "passed": whole,
            "DSC": whole, "DSC_positives": drawn,
        }  # fmt: skip
        # Which frames count, and what they contribute when open and closed; (N, M) each.
        self._counted = np.column_stack([of[name] for name in MEASURES]).astype(np.float64)
        self._open, self._closed = (
            np.column_stack([np.where(of[name], values[name], 0.0) for name in MEASURES])
            for values in (_contributions(results, opened) for opened in (whole, ~whole))
        )

    def curve(self) -> dict[str, np.ndarray]:
        """Return the measures at ``thresholds``, (K,) each."""
        order = self.probabilities.argsort(kind="stable")
        # How many frames are closed at each threshold: the first ones in this order.
        closed = np.searchsorted(self.probabilities[order], self.thresholds, side="left")
        start = np.zeros((1, len(MEASURES)))
        below = np.concatenate([start, self._closed[order].cumsum(axis=0)])[closed]
        above = np.concatenate([start, self._open[order][::-1].cumsum(axis=0)])[len(order) - closed]
        values = (below + above) / self._counted.sum(axis=0)
        return dict(zip(MEASURES, values.T, strict=True))

    def at(self, threshold: float) -> Gate:
        """Return what a threshold does."""
        values = np.where((self.probabilities >= threshold)[:, None], self._open, self._closed)

        def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
            counted = weights @ self._counted
            means = (weights @ values) / np.where(counted > 0, counted, np.nan)
            return dict(zip(MEASURES, means.T, strict=True))

        found = statistic(np.ones((1, len(values))))
        counts = np.stack([values.sum(axis=0), self._counted.sum(axis=0)], axis=1)
        return Gate(
            {name: float(value[0]) for name, value in found.items()},
            {name: (round(some), round(of)) for name, (some, of) in zip(SHARES, counts.tolist(), strict=False)},
            statistic,
        )


def _contributions(results: FrameResults, opened: np.ndarray) -> dict[str, np.ndarray]:
    """Return what each frame has of the measures, (N,) by name, when it is open or closed."""
    frames = SegmentationScores(results.counts.gated(opened)).frames
    return {
        "sensitivity": opened, "specificity": ~opened, "frame_FPR": frames["frame_FPR"],
        "frame_FNR": frames["frame_FNR"], "passed": opened, "DSC": frames["DSC"], "DSC_positives": frames["DSC"],
    }  # fmt: skip

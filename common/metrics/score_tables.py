"""Tables of the evaluations of a two-stage pipeline: rows for programs, Markdown for people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from common.metrics.bootstrap import Interval
from common.metrics.frame_evaluation import EVALUATED_SCORES, Comparison, Evaluation
from common.metrics.frame_results import FrameResults
from common.metrics.frame_segmentation import SegmentationScores

__all__ = ["COMPARISON_COLUMNS", "SCORE_COLUMNS", "comparison_rows", "comparison_tables", "score_rows", "score_tables"]

SCORE_COLUMNS = (
    "evaluation", "score", "value", "low", "high", "undefined_resamples", "frames", "positives", "patients",
)  # fmt: skip
COMPARISON_COLUMNS = ("model", "evaluation", "score", "value", "other", "difference", "p_value")
_FRAME_SCORES = ("DSC", "IoU", "accuracy", "sensitivity", "specificity", "precision", "FPR", "FNR")
FRAME_COLUMNS = (
    "id", "patient", "present", "p_present", "passes_gate", "pixels", "reference_pixels", "mask_pixels",
    *(f"{stage}_{score}" for stage in ("segmenter", "end_to_end") for score in _FRAME_SCORES),
)  # fmt: skip

_TITLES = {
    "classifier": "stage 1",
    "both_stages": "both stages",
    "segmenter_positives": "positives",
    "segmenter_all": "all frames, without the gate",
    "end_to_end": "all frames, end to end",
}
# Each is a table of its own, with the evaluations side by side that have the same scores.
_STAGES = {
    "Is it there?": ("classifier", "both_stages"),
    "Where is it?": ("segmenter_positives", "segmenter_all", "end_to_end"),
}


def frame_rows(results: FrameResults) -> list[dict[str, Any]]:
    """Return a row of ``FRAME_COLUMNS`` for each frame; numbers to six places.

    ``mask_pixels`` and what begins with ``segmenter`` are of stage 2 by itself, ``end_to_end`` is with the gate.
    """
    opened = results.opened()
    scores = {
        "segmenter": SegmentationScores(results.counts).frames,
        "end_to_end": SegmentationScores(results.counts.gated(opened)).frames,
    }
    return [
        {
            "id": results.ids[at],
            "patient": results.patients[at],
            "present": int(results.presence.present[at]),
            "p_present": round(float(results.presence.probabilities[at]), 6),
            "passes_gate": int(opened[at]),
            "pixels": tp + fp + tn + fn,
            "reference_pixels": tp + fn,
            "mask_pixels": tp + fp,
        }
        | {
            f"{stage}_{score}": round(float(values[score][at]), 6)
            for stage, values in scores.items()
            for score in _FRAME_SCORES
        }
        for at, (tp, fp, tn, fn) in enumerate(results.counts.confusion.tolist())
    ]


def score_rows(evaluations: Mapping[str, Evaluation]) -> list[dict[str, Any]]:
    """Return a row of ``SCORE_COLUMNS`` for each evaluation and score; numbers to six places."""
    return [
        {
            "evaluation": name,
            "score": score,
            "value": round(interval.value, 6),
            "low": round(interval.low, 6),
            "high": round(interval.high, 6),
            "undefined_resamples": interval.undefined,
            "frames": found.frames,
            "positives": found.positives,
            "patients": found.patients,
        }
        for name, found in evaluations.items()
        for score, interval in found.scores.items()
    ]


def comparison_rows(model: str, comparisons: Mapping[str, Mapping[str, Comparison]]) -> list[dict[str, Any]]:
    """Return a row of ``COMPARISON_COLUMNS`` for each evaluation and score; numbers to six places.

    Args:
        model: the other model's name.
        comparisons: by evaluation and score.
    """
    return [
        {
            "model": model,
            "evaluation": name,
            "score": score,
            "value": round(found.value, 6),
            "other": round(found.other, 6),
            "difference": round(found.difference, 6),
            "p_value": round(found.p_value, 6),
        }
        for name, scores in comparisons.items()
        for score, found in scores.items()
    ]


def score_tables(evaluations: Mapping[str, Evaluation]) -> str:
    """Return the scores with their confidence intervals in Markdown, a table for each stage."""
    cells = {
        name: {score: _value(interval) for score, interval in found.scores.items()}
        for name, found in evaluations.items()
    }
    return _tables("##", cells)


def comparison_tables(comparisons: Mapping[str, Mapping[str, Comparison]]) -> str:
    """Return the differences and their p-values in Markdown, a table for each stage."""
    cells = {
        name: {score: _difference(found) for score, found in scores.items()} for name, scores in comparisons.items()
    }
    return _tables("###", cells)


def _tables(level: str, cells: Mapping[str, Mapping[str, str]]) -> str:
    parts = []
    for title, names in _STAGES.items():
        shown = [name for name in names if name in cells]
        scores = max((EVALUATED_SCORES[name] for name in shown), key=len, default=())
        rows = [[score, *(cells[name].get(score, "") for name in shown)] for score in scores]
        parts += [f"{level} {title}", _table(["score", *(_TITLES[name] for name in shown)], rows)]
    return "\n\n".join(parts)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _value(interval: Interval) -> str:
    if math.isnan(interval.value):
        return "not defined"
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _difference(found: Comparison) -> str:
    return "not defined" if math.isnan(found.difference) else f"{found.difference:+.3f} (p = {found.p_value:.3g})"

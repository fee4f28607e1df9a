"""Tables of the evaluations of a two-stage pipeline, for programs (rows) and for people (Markdown)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from common.metrics.bootstrap import Interval
from common.metrics.frame_evaluation import EVALUATED_SCORES, Comparison, Evaluation

__all__ = ["COMPARISON_COLUMNS", "SCORE_COLUMNS", "comparison_rows", "comparison_tables", "score_rows", "score_tables"]

SCORE_COLUMNS = (
    "evaluation", "score", "value", "low", "high", "undefined_resamples", "frames", "positives", "patients",
)  # fmt: skip
COMPARISON_COLUMNS = ("model", "evaluation", "score", "value", "other", "difference", "p_value")

_TITLES = {
    "classifier": "all frames",
    "segmenter_positives": "positives",
    "segmenter_all": "all frames, no gate",
    "end_to_end": "all frames, end to end",
}
# Each is a table of its own, with the evaluations side by side that have the same scores.
_STAGES = {
    "Stage 1: is it there?": ("classifier",),
    "Stage 2: where is it?": ("segmenter_positives", "segmenter_all", "end_to_end"),
}


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
    heads = {
        name: f"{_TITLES[name]} ({found.frames} frames, {found.positives} positive, {found.patients} patients)"
        for name, found in evaluations.items()
    }
    return _tables("##", cells, heads)


def comparison_tables(comparisons: Mapping[str, Mapping[str, Comparison]]) -> str:
    """Return the differences and their p-values in Markdown, a table for each stage."""
    cells = {
        name: {score: _difference(found) for score, found in scores.items()} for name, scores in comparisons.items()
    }
    return _tables("###", cells, _TITLES)


def _tables(level: str, cells: Mapping[str, Mapping[str, str]], heads: Mapping[str, str]) -> str:
    parts = []
    for title, names in _STAGES.items():
        shown = [name for name in names if name in cells]
        scores = max((EVALUATED_SCORES[name] for name in shown), key=len, default=())
        rows = [[score, *(cells[name].get(score, "") for name in shown)] for score in scores]
        parts += [f"{level} {title}", _table(["score", *(heads[name] for name in shown)], rows)]
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

"""The table of a search."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from common.data.atomic import write_csv, write_json, write_text
from tools.bundle_process import as_word

__all__ = ["BEST", "as_markdown", "ranked", "write_tables"]

BEST = "best.json"


def ranked(trials: Sequence[FrozenTrial], mode: str) -> list[FrozenTrial]:
    """Return the trials that have ended, the best first, the failed last."""
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    done.sort(key=lambda trial: trial.value if mode == "min" else -trial.value)
    return done + [trial for trial in trials if trial.state == TrialState.FAIL]


def _rows(trials: Sequence[FrozenTrial], folds: Sequence[int]) -> list[dict[str, Any]]:
    rows = []
    for trial in trials:
        known = trial.user_attrs.get("scores", {})
        scores = {fold: known[str(fold)] for fold in folds if str(fold) in known}
        row: dict[str, Any] = {"trial": trial.number, "mean": trial.value}
        if trial.value is not None and len(scores) > 1:
            row["sd"] = statistics.stdev(scores.values())
        row |= {f"fold_{fold}": score for fold, score in scores.items()}
        row |= {name: as_word(value) for name, value in trial.user_attrs["values"].items()}
        rows.append(row | {"error": trial.user_attrs.get("error")})
    return rows


def _columns(rows: Sequence[Mapping[str, Any]], folds: Sequence[int], names: Sequence[str]) -> list[str]:
    errors = ["error"] if any(row["error"] for row in rows) else []
    return ["trial", "mean", "sd", *(f"fold_{fold}" for fold in folds), *names, *errors]


def as_markdown(trials: Sequence[FrozenTrial], folds: Sequence[int], names: Sequence[str], title: str) -> str:
    """Return the table as text.

    Args:
        trials: see :func:`ranked`.
        folds: the folds.
        names: the ids that are searched.
        title: the line above it.
    """
    rows = _rows(trials, folds)
    columns = _columns(rows, folds, names)
    lines = [title, "", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for row in rows:
        cells = (_cell(row.get(column)) for column in columns)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")


def write_tables(
    folder: Path, trials: Sequence[FrozenTrial], folds: Sequence[int], names: Sequence[str], title: str
) -> None:
    """Write ``trials.csv``, ``trials.md`` and, where a trial has a score, the best values as ``best.json``.

    Args:
        folder: of the search.
        trials: see :func:`ranked`.
        folds: the folds.
        names: the ids that are searched.
        title: the line above the table.
    """
    rows = _rows(trials, folds)
    write_csv(folder / "trials.csv", rows, _columns(rows, folds, names))
    write_text(folder / "trials.md", as_markdown(trials, folds, names, title))
    if trials and trials[0].value is not None:
        write_json(folder / BEST, trials[0].user_attrs["values"])

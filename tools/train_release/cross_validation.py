"""What a cross-validation by subject has found."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.data.atomic import write_csv, write_json

__all__ = ["ALL", "COLUMNS", "cross_validated", "write_cross_validation"]

# What the row of all folds together bears as its fold.
ALL = "all"
COLUMNS = ("fold", "subjects", "cases", "mean", "sd")
_DIGITS = 4


def cross_validated(scores: Mapping[int, Mapping[str, float]], subjects: Mapping[str, str]) -> dict[str, Any]:
    """Put the scores of all folds together, by subject.

    Cases of one subject resemble each other: a subject's score is the mean of its cases', and counts once.

    Args:
        scores: by fold, of each of its held-out cases that has any.
        subjects: whose a case is, by its id; a case that is not named is a subject of its own.

    Returns:
        ``mean`` and ``sd`` (n - 1; None where there are too few) over all subjects with a score, how many ``subjects``
        and ``cases`` these are, the same by fold in ``folds``, and the ``score``, ``fold`` and ``subject`` of ``each``
        case.
    """
    each = {
        case: {"score": score, "fold": fold, "subject": subjects.get(case, case)}
        for fold, cases in scores.items()
        for case, score in sorted(cases.items())
    }
    folds = [{"fold": fold} | _summary([row for row in each.values() if row["fold"] == fold]) for fold in scores]
    return _summary(list(each.values())) | {"folds": folds, "each": each}


def write_cross_validation(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write what was found as ``cross_validation.json``, and as ``cross_validation.csv`` the table of it.

    Args:
        found: see :func:`cross_validated`.
        folder: where they go.

    Returns:
        Both files.

    Raises:
        InputError: they cannot be written.
    """
    files = [folder / "cross_validation.json", folder / "cross_validation.csv"]
    write_json(files[0], found)
    rows = [*found["folds"], {"fold": ALL} | {name: found[name] for name in COLUMNS[1:]}]
    write_csv(files[1], rows, COLUMNS)
    return files


def _summary(rows: list[Mapping[str, Any]]) -> dict[str, Any]:
    of_subjects: dict[str, list[float]] = {}
    for row in rows:
        of_subjects.setdefault(row["subject"], []).append(row["score"])
    means = [statistics.fmean(scores) for scores in of_subjects.values()]
    return {
        "mean": round(statistics.fmean(means), _DIGITS) if means else None,
        "sd": round(statistics.stdev(means), _DIGITS) if len(means) > 1 else None,
        "subjects": len(means),
        "cases": len(rows),
    }

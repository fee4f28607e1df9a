"""What a cross-validation by subject has found."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.data.atomic import write_csv
from common.handlers.evaluation_report import CASES

__all__ = ["CASE_COLUMNS", "COLUMNS", "cross_validated", "read_case_rows", "write_cross_validation"]

COLUMNS = ("part", "subjects", "cases", "mean", "sd", "wholly_named_right")
CASE_COLUMNS = ("case", "subject", "group", "fold", "dice", "named_right")
_DIGITS = 4


def read_case_rows(evaluation: Path) -> list[dict[str, Any]]:
    """Return what the evaluation of a fold has of each case: ``CASE_COLUMNS`` but the fold; None where it has none."""
    with open(evaluation / CASES, newline="", encoding="utf-8") as file:
        return [
            {name: row[name] for name in ("case", "subject", "group")}
            | {name: float(row[name]) if row[name] else None for name in ("dice", "named_right")}
            for row in csv.DictReader(file)
        ]


def cross_validated(folds: Mapping[int, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Put the held-out cases of all folds together, by subject.

    Cases of one subject resemble each other: a subject's Dice is the mean of its cases', and counts once. Names are
    counted by case.

    Args:
        folds: what :func:`read_case_rows` gives, of each fold.

    Returns:
        ``mean`` and ``sd`` (n - 1; None where there are too few) of the Dice over all subjects that have one, how many
        ``subjects`` and ``cases`` these are, and the share ``wholly_named_right`` of the cases in which every structure
        that was drawn is named right; the same by fold in ``folds`` and by group in ``groups``; and ``each`` case.
    """
    each = [dict(row) | {"fold": fold} for fold, rows in folds.items() for row in rows]
    groups = sorted({row["group"] for row in each})
    return _summary(each) | {
        "folds": {str(fold): _summary([row for row in each if row["fold"] == fold]) for fold in folds},
        "groups": {name: _summary([row for row in each if row["group"] == name]) for name in groups},
        "each": each,
    }


def write_cross_validation(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the table of the parts and that of the cases.

    Args:
        found: see :func:`cross_validated`.
        folder: where they go.

    Returns:
        ``cross_validation.csv`` and ``cross_validation_cases.csv``.

    Raises:
        InputError: they cannot be written.
    """
    files = [folder / f"cross_validation{ending}.csv" for ending in ("", "_cases")]
    parts = {f"fold {fold}": part for fold, part in found["folds"].items()} | found["groups"] | {"all": found}
    rows = [{"part": name} | {column: part[column] for column in COLUMNS[1:]} for name, part in parts.items()]
    write_csv(files[0], rows, COLUMNS)
    write_csv(files[1], found["each"], CASE_COLUMNS)
    return files


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    of_subjects: dict[str, list[float]] = {}
    for row in rows:
        if row["dice"] is not None:
            of_subjects.setdefault(row["subject"], []).append(row["dice"])
    means = [statistics.fmean(scores) for scores in of_subjects.values()]
    named = [row["named_right"] == 1 for row in rows if row["named_right"] is not None]
    return {
        "mean": round(statistics.fmean(means), _DIGITS) if means else None,
        "sd": round(statistics.stdev(means), _DIGITS) if len(means) > 1 else None,
        "subjects": len(means),
        "cases": sum(map(len, of_subjects.values())),
        "wholly_named_right": round(statistics.fmean(named), _DIGITS) if named else None,
    }

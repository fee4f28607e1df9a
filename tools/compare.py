"""Compare two evaluations of the same cases, structure by structure: ``python -m tools.compare FIRST SECOND``.

FIRST and SECOND are folders that ``evaluate.json`` of a spine bundle wrote, of two models on the same cases. For each
structure, and for the mean of a case, its vertebrae and its discs: in how many cases it was scored, the mean Dice of
both and its standard deviation over the cases, the mean of the differences (second - first) with their standard
deviation, its 95 % confidence interval by resampling subjects, and how likely such a difference would be if the models
were the same (:class:`common.metrics.Bootstrap`; no correction for the number of structures). Resampling fewer than
five subjects says nothing: then there is neither interval nor p.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.data.atomic import write_csv, write_text
from common.errors import InputError
from common.handlers.evaluation_report import CASES, STRUCTURES
from tools.benchmark.arguments import OneLineParser
from tools.benchmark.report import table
from tools.paired import differences, mean_of

_OF_A_CASE = {"dice": "mean of a case", "vertebrae": "its vertebrae", "discs": "its discs"}
_COLUMNS = (
    "structure", "cases", "subjects", "first", "first_sd", "second", "second_sd", "difference", "difference_sd", "low",
    "high", "p",
)  # fmt: skip
Scores = dict[tuple[str, str], float]


def read_evaluation(folder: Path) -> tuple[Scores, dict[str, str]]:
    """Read the Dice of an evaluation.

    Args:
        folder: with ``dice.csv`` and ``cases.csv``.

    Returns:
        Dice by structure and case, structures in the tables' order, none where there is no score; subjects by case.

    Raises:
        InputError: the folder holds no evaluation.
    """
    scores: Scores = {}
    subjects: dict[str, str] = {}
    for row in _rows(folder / CASES):
        subjects[row["case"]] = row["subject"]
        for column, name in _OF_A_CASE.items():
            _add(scores, name, row["case"], row[column])
    for row in _rows(folder / STRUCTURES):
        _add(scores, row["structure"], row["case"], row["dice"])
    return scores, subjects


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise InputError(
            path, f"cannot be read ({error.strerror})", "pass a folder that evaluate.json wrote"
        ) from error


def _add(scores: Scores, structure: str, case: str, text: str) -> None:
    if text:
        scores[structure, case] = float(text)


def compare(first: Path, second: Path) -> list[dict[str, Any]]:
    """Compare two evaluations.

    Args:
        first: an evaluation's folder.
        second: another one's.

    Returns:
        A row for each structure that both have scored, with the keys ``_COLUMNS``.

    Raises:
        InputError: a folder holds no evaluation, or they are not of the same cases.
    """
    (one, subjects), (other, theirs) = read_evaluation(first), read_evaluation(second)
    if subjects != theirs:
        apart = sorted(set(subjects.items()) ^ set(theirs.items()))
        problem = f"is not an evaluation of the same cases as {first} ({apart[0][0]})"
        raise InputError(second, problem, "evaluate both models with the same --dataset_dir, --fold and --part")
    structures = dict.fromkeys(structure for structure, _ in one)
    return [row for structure in structures if (row := _compare(structure, one, other, subjects)) is not None]


def _compare(structure: str, one: Scores, other: Scores, subjects: Mapping[str, str]) -> dict[str, Any] | None:
    cases = [case for case in subjects if (structure, case) in one and (structure, case) in other]
    if not cases:
        return None
    pairs = np.array([(one[structure, case], other[structure, case]) for case in cases])
    groups = [subjects[case] or case for case in cases]

    difference = pairs[:, 1] - pairs[:, 0]
    deviations = np.column_stack([pairs, difference]).std(axis=0, ddof=1) if len(cases) > 1 else [np.nan] * 3
    row = {"structure": structure, "cases": len(cases), "subjects": len(set(groups))}
    row |= {"first": pairs[:, 0].mean(), "first_sd": deviations[0]}
    row |= {"second": pairs[:, 1].mean(), "second_sd": deviations[1]}
    figures = {"first": mean_of(pairs[:, 0]), "second": mean_of(pairs[:, 1])}
    (found,) = differences(figures, [("first", "second")], groups)
    row |= {"difference": difference.mean(), "difference_sd": deviations[2]}
    row |= {"low": found.low, "high": found.high, "p": found.p}
    return {key: float(value) if isinstance(value, np.floating) else value for key, value in row.items()}


def as_markdown(rows: Sequence[Mapping[str, Any]], first: Path, second: Path) -> str:
    """Write the table, with Dice in units of 1."""

    def spread(row: Mapping[str, Any], key: str) -> str:
        deviation = "" if np.isnan(row[f"{key}_sd"]) else f" ± {row[f'{key}_sd']:.3f}"
        return f"{row[key]:.3f}{deviation}"

    head = ["structure", "cases (subjects)", str(first), str(second), "difference", "95 % interval", "p"]
    body = [
        [
            row["structure"],
            f"{row['cases']} ({row['subjects']})",
            spread(row, "first"),
            spread(row, "second"),
            spread(row, "difference"),
            "" if row["p"] is None else f"{row['low']:+.3f} to {row['high']:+.3f}",
            "" if row["p"] is None else f"{row['p']:.3f}",
        ]
        for row in rows
    ]
    return "\n".join(table([head, *body])) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Compare, and print the table.

    Returns:
        0, or 1 after an error, which is one line on stderr.
    """
    parser = OneLineParser("tools.compare", __doc__)
    parser.add_argument("first", type=Path, help="an evaluation's folder")
    parser.add_argument("second", type=Path, help="another one's, of the same cases")
    parser.add_argument("--output", nargs="+", type=Path, default=[], help="files to write: .csv or .md")
    arguments = parser.parse_args(argv)
    try:
        for path in arguments.output:
            if path.suffix not in (".csv", ".md"):
                raise InputError(path, "is no known format", "let the name end in .csv or .md")
        rows = compare(arguments.first, arguments.second)
        text = as_markdown(rows, arguments.first, arguments.second)
        print(text, end="")
        for path in arguments.output:
            if path.suffix == ".csv":
                write_csv(path, rows, _COLUMNS)
            else:
                write_text(path, text)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a cross-validation by subject has found."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.data.atomic import write_csv, write_json
from common.errors import InputError
from common.handlers.evaluation_report import CASES
from tools.train_release.recipe import Recipe

__all__ = [
    "CASE_COLUMNS",
    "COLUMNS",
    "cross_validated",
    "read_case_rows",
    "read_other_folds",
    "what_was_trained",
    "write_cross_validation",
]

COLUMNS = ("part", "subjects", "cases", "mean", "sd", "wholly_named_right")
CASE_COLUMNS = ("case", "subject", "group", "fold", "dice", "named_right")
_DIGITS = 4
_TABLE, _EACH, _TRAINED = (f"cross_validation{end}" for end in (".csv", "_cases.csv", "_recipe.json"))
# Ids that say where a training runs, not what is trained.
_WHERE = ("device", "num_workers")


def read_case_rows(evaluation: Path) -> list[dict[str, Any]]:
    """Return what the evaluation of a fold has of each case: ``CASE_COLUMNS`` but the fold; None where it has none."""
    with open(evaluation / CASES, newline="", encoding="utf-8") as file:
        return [_numbers(row) for row in csv.DictReader(file)]


def what_was_trained(recipe: Recipe, ids: Mapping[str, Any]) -> dict[str, Any]:
    """Return what has to be equal for folds to belong together: the recipe, and the ids that were changed.

    What stands in the bundle's own configurations is not part of it: train all folds with one version of the bundle.
    """
    changed = {name: str(value) for name, value in ids.items() if name not in _WHERE}
    return {"recipe": recipe.content(), "set": changed}


def read_other_folds(
    files: Iterable[Path], trained: Mapping[str, Any], folds: Sequence[int], here: Iterable[int]
) -> dict[int, list[dict[str, Any]]]:
    """Read the held-out cases of folds that were trained elsewhere.

    Args:
        files: the ``cross_validation_cases.csv`` of these runs, each with its ``cross_validation_recipe.json``.
        trained: :func:`what_was_trained` here.
        folds: those that there are.
        here: those that are trained here.

    Returns:
        What :func:`read_case_rows` gives, of each fold.

    Raises:
        InputError: a file is not there or not such a table, is of another recipe, or of a fold that comes twice.
    """
    found: dict[int, list[dict[str, Any]]] = {}
    taken = dict.fromkeys(here, "is trained here, too")
    for path in files:
        beside = path.with_name(_TRAINED)
        for file in (path, beside):
            if not file.is_file():
                raise InputError(file, "is not there", f"pass the {_EACH} of a run, with {_TRAINED} beside it")
        if (other := _first_difference(_read_json(beside), trained)) is not None:
            raise InputError(beside, f"is of another training: {other}", "train these folds with the same recipe")
        rows = _read_table(path)
        for fold in sorted({row["fold"] for row in rows}):
            if fold not in folds:
                raise InputError(path, f"fold {fold}: there is none", f"the folds are {', '.join(map(str, folds))}")
            if fold in taken:
                raise InputError(path, f"fold {fold} {taken[fold]}", "have every fold once")
            found[fold] = [row for row in rows if row["fold"] == fold]
        taken |= dict.fromkeys(found.keys() - taken.keys(), f"stands in {path}, too")
    return found


def cross_validated(folds: Mapping[int, Sequence[Mapping[str, Any]]], trained: Mapping[str, Any]) -> dict[str, Any]:
    """Put the held-out cases of all folds together, by subject.

    Cases of one subject resemble each other: a subject's Dice is the mean of its cases', and counts once. Names are
    counted by case.

    Args:
        folds: what :func:`read_case_rows` gives, of each fold.
        trained: what :func:`what_was_trained` gives.

    Returns:
        ``mean`` and ``sd`` (n - 1; None where there are too few) of the Dice over all subjects that have one, how many
        ``subjects`` and ``cases`` these are, and the share ``wholly_named_right`` of the cases in which every structure
        that was drawn is named right; the same by fold in ``folds`` and by group in ``groups``; ``each`` case; and
        what was ``trained``.

    Raises:
        InputError: a subject is held out in two folds.
    """
    folds = {fold: folds[fold] for fold in sorted(folds)}
    each = [dict(row) | {"fold": fold} for fold, rows in folds.items() for row in rows]
    held_out: dict[str, int] = {}
    for row in each:
        if (first := held_out.setdefault(row["subject"], row["fold"])) != row["fold"]:
            where = f"is held out in fold {first} and in fold {row['fold']}"
            raise InputError(f"subject {row['subject']}", where, "train all folds on the same data")
    groups = sorted({row["group"] for row in each})
    return _summary(each) | {
        "folds": {str(fold): _summary([row for row in each if row["fold"] == fold]) for fold in folds},
        "groups": {name: _summary([row for row in each if row["group"] == name]) for name in groups},
        "each": each,
        "trained": trained,
    }


def write_cross_validation(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the table of the parts and that of the cases, and what was trained.

    Args:
        found: see :func:`cross_validated`.
        folder: where they go.

    Returns:
        ``cross_validation.csv``, ``cross_validation_cases.csv`` and ``cross_validation_recipe.json``.

    Raises:
        InputError: they cannot be written.
    """
    files = [folder / name for name in (_TABLE, _EACH, _TRAINED)]
    parts = {f"fold {fold}": part for fold, part in found["folds"].items()} | found["groups"] | {"all": found}
    rows = [{"part": name} | {column: part[column] for column in COLUMNS[1:]} for name, part in parts.items()]
    write_csv(files[0], rows, COLUMNS)
    write_csv(files[1], found["each"], CASE_COLUMNS)
    write_json(files[2], found["trained"])
    return files


def _read_table(path: Path) -> list[dict[str, Any]]:
    remedy = f"pass the {_EACH} of a run"
    # What is no text has no such columns.
    with open(path, newline="", encoding="utf-8", errors="replace") as opened:
        table = csv.DictReader(opened)
        if tuple(table.fieldnames or ()) != CASE_COLUMNS:
            raise InputError(path, f"has not the columns {', '.join(CASE_COLUMNS)}", remedy)
        try:
            return [_numbers(row) | {"fold": int(row["fold"])} for row in table]
        except (TypeError, ValueError) as error:
            raise InputError(path, f"line {table.line_num} is no row of such a table ({error})", remedy) from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(path, f"is not JSON ({error})", "take that of the same run") from error


def _numbers(row: Mapping[str, str]) -> dict[str, Any]:
    names = {name: row[name] for name in ("case", "subject", "group")}
    return names | {name: float(row[name]) if row[name] else None for name in ("dice", "named_right")}


def _first_difference(theirs: Any, ours: Any, where: str = "") -> str | None:
    """Tell where two trainings differ first, and how; None where they do not."""
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        pairs = [(f"{where}/{name}", theirs.get(name), ours.get(name)) for name in {**ours, **theirs}]
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        pairs = [(f"{where}/{number}", *pair) for number, pair in enumerate(zip(theirs, ours, strict=True))]
    else:
        return None if theirs == ours else f"{where.lstrip('/')} is {theirs}, not {ours}"
    return next((found for name, *pair in pairs if (found := _first_difference(*pair, name)) is not None), None)


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

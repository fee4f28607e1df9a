"""What a training left: its score, and what that was taken of."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

from common.errors import InputError
from common.handlers.training_recorder import HISTORY, SPLIT
from tools.bundle_process import TrainingError

__all__ = ["best_value", "validation_cases"]


def validation_cases(folder: Path) -> list[str]:
    """Return what a training validated with; nothing where that is not known.

    Args:
        folder: of the training; its ``split.json`` may lie in a folder below.
    """
    paths = sorted(folder.rglob(SPLIT), key=lambda path: len(path.parts))
    return json.loads(paths[0].read_text(encoding="utf-8")).get("validation", []) if paths else []


def best_value(folder: Path, column: str, mode: str) -> float:
    """Return the best value that a training reached.

    Args:
        folder: of the training; its ``history.csv`` may lie in a folder below, as that of one stage of several.
        column: of the score.
        mode: ``max`` or ``min``, whichever is better.

    Raises:
        InputError: there is no such column; the message names those that there are.
        TrainingError: there is no history, or the column has no number.
    """
    columns: list[str] = []
    for path in sorted(folder.rglob(HISTORY), key=lambda path: len(path.parts)):
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows, names = list(reader), list(reader.fieldnames or [])
        columns += [name for name in names if name not in columns]
        if column not in names:
            continue
        numbers = [float(row[column]) for row in rows if row[column]]
        finite = [number for number in numbers if math.isfinite(number)]
        if not finite:
            raise TrainingError(f"{path} has no number in the column {column}")
        return max(finite) if mode == "max" else min(finite)
    if not columns:
        raise TrainingError(f"{folder} has no {HISTORY}")
    raise InputError(f"--score {column}", f"is no column of the {HISTORY} in {folder}", f"choose {', '.join(columns)}")

"""What the tables on MR volumes have in common."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from common.data.label_scheme import LabelScheme
from common.data.scan_reader import source_files
from common.handlers.evaluation_report import CASES, STRUCTURES
from tools.reproduce.results import Figure, Metric, Score
from tools.reproduce.table import Kind, Row

__all__ = ["METRICS", "SPINE", "pictures", "read_evaluation", "structures"]

METRICS = (
    Metric("dice", "Dice"),
    Metric("vertebrae", "Dice, vertebrae"),
    Metric("merged_vertebrae", "Dice, vertebrae whatever their names"),
    Metric("discs", "Dice, discs"),
    Metric("named_right", "named right"),
    Metric("hd95", "HD95", "mm", higher_is_better=False, decimals=1),
    Metric("msd", "mean surface distance", "mm", higher_is_better=False, decimals=2),
)
_OF_STRUCTURES = {"dice": "dice", "named_right": "named_right", "hd95": "hd95_mm", "msd": "msd_mm"}


def _subjects(cases: Any) -> dict[str, tuple[str, list[Path]]]:
    return {case["id"]: (case.get("subject", case["id"]), source_files(case["image"])) for case in cases.all}


SPINE = Kind("spine", _subjects, {"phantom_cases": 10})


def structures(scheme: str) -> list[str]:
    """Return the names of a label scheme's structures, from the sacrum up, vertebrae first."""
    return [structure.name for structure in LabelScheme.load(scheme).structures]


def read_evaluation(row: Row, folder: Path, fold: int | None) -> tuple[list[Score], list[Figure]]:
    """Read what ``evaluate.json`` of a spine bundle wrote.

    A case's Dice is the mean over its drawn structures; so are the share that is named right and the distances, in mm,
    of those that were found. A vertebra with its neighbour's name has a Dice of 0: how well bone is outlined shows in
    the Dice of all vertebrae merged, whatever their names.
    """
    scores: list[Score] = []
    sums: dict[tuple[str, str, str], list[float]] = {}
    key = row.model.key
    for line in _rows(folder / STRUCTURES):
        for metric, column in _OF_STRUCTURES.items():
            if line[column]:
                value = float(line[column])
                scores.append(Score(key, fold, line["case"], line["subject"], metric, value, line["structure"]))
                sums.setdefault((line["case"], line["subject"], metric), []).append(value)
    for line in _rows(folder / CASES):
        for metric in ("dice", "vertebrae", "merged_vertebrae", "discs"):
            if line[metric]:
                scores.append(Score(key, fold, line["case"], line["subject"], metric, float(line[metric])))
    for (case, subject, metric), values in sums.items():
        if metric != "dice":
            scores.append(Score(key, fold, case, subject, metric, sum(values) / len(values)))
    return scores, []


def pictures(folder: Path) -> dict[str, Path]:
    """Return the overlays by case."""
    return {path.name.removesuffix("_overlay.png"): path for path in sorted(folder.glob("*_overlay.png"))}


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))

"""What the tables on clips of video have in common."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from common.metrics import SCORES
from tools.reproduce.results import Figure, Metric, Score
from tools.reproduce.table import Kind, Row

__all__ = ["METRICS", "VIDEO", "read_evaluation"]

# Of the whole set: the largest value of the curve that is the mean of all sequences' curves, as the papers have it.
_OF_SET = ("maxDice", "maxIoU", "MAE", "meanSpe", "maxSpe")
_TITLES = {"MAE": "MAE", "Dice": "Dice at 0.5"}
_LOW_IS_GOOD = ("MAE",)
METRICS = (
    Metric("Dice", "Dice at 0.5, of a sequence"),
    *(
        Metric(f"sequence_{name}", f"{name}, of a sequence", higher_is_better=name not in _LOW_IS_GOOD)
        for name in SCORES
        if name != "Dice"
    ),
    *(Metric(name, f"{name}, of the set", higher_is_better=name not in _LOW_IS_GOOD) for name in _OF_SET),
)


def _subjects(cases: Any) -> dict[str, tuple[str, list[Path]]]:
    return {
        sequence.id: (sequence.subject, [Path(str(frame)) for frame in sequence.frames if Path(str(frame)).is_file()])
        for sequence in cases.sequences
    }


VIDEO = Kind("video", _subjects, {"phantom_sequences": 8, "phantom_length": 8, "phantom_size": [36, 64]})


def read_evaluation(row: Row, folder: Path, fold: int | None) -> tuple[list[Score], list[Figure]]:
    """Read what ``evaluate.json`` of a bundle for clips wrote: scores of each sequence, and figures of the set."""
    scores = []
    with open(folder / "sequences.csv", newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            for name in SCORES:
                if line[name]:
                    metric = name if name == "Dice" else f"sequence_{name}"
                    value = float(line[name])
                    scores.append(Score(row.model.key, fold, line["sequence"], line["subject"], metric, value))
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    figures = [Figure(row.model.key, name, float(summary[name])) for name in _OF_SET if summary[name] is not None]
    return scores, figures

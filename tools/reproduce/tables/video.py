"""What the tables on clips of video have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.handlers.video_report import CURVES_FILE
from common.metrics import SequenceCurves
from tools.reproduce.results import Figure, Metric, Score
from tools.reproduce.table import Kind, Row

__all__ = ["METRICS", "VIDEO", "read_evaluation"]

# The papers' maxima are of the curve that is the mean of all sequences' curves. Their means are as well the means of
# the sequences' own figures, since a mean over thresholds and one over sequences can be taken in either order.
_MAXIMA = {"maxDice": "Dice", "maxIoU": "IoU", "maxSpe": "specificity"}
METRICS = (
    Metric("Dice", "Dice at 0.5"),
    *(Metric(name, f"{name} of the set", statistic="maximum") for name in ("maxDice", "maxIoU")),
    Metric("MAE", "MAE", higher_is_better=False),
    Metric("meanSpe", "meanSpe"),
    Metric("maxSpe", "maxSpe of the set", statistic="maximum"),
    Metric("meanSen", "meanSen"),
    *(Metric(f"sequence_{name}", f"{name} of a sequence") for name in _MAXIMA),
)


def _subjects(cases: Any) -> dict[str, tuple[str, list[Path]]]:
    return {
        sequence.id: (sequence.subject, [Path(str(frame)) for frame in sequence.frames if Path(str(frame)).is_file()])
        for sequence in cases.sequences
    }


VIDEO = Kind("video", _subjects, {"phantom_sequences": 8, "phantom_length": 8, "phantom_size": [36, 64]})


def read_evaluation(row: Row, folder: Path, fold: int | None) -> tuple[list[Score], list[Figure]]:
    """Read the curves of each sequence that ``evaluate.json`` of a bundle for clips wrote.

    Raises:
        InputError: they are not there, or cannot be read.
    """
    found = SequenceCurves.load(folder / CURVES_FILE)
    scores = []
    for at, values in enumerate(found.scores()):
        where = (row.model.key, fold, found.ids[at], found.subjects[at])
        for name, value in values.items():
            metric = f"sequence_{name}" if name in _MAXIMA else name
            if value == value:  # no Dice where nothing is drawn
                scores.append(Score(*where, metric, value))
            if name in _MAXIMA:
                scores.append(Score(*where, name, value, curve=found.curve(_MAXIMA[name])[at]))
    return scores, []

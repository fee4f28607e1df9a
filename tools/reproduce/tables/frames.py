"""What the tables on single frames have in common."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from common.handlers.presence_report import FRAMES
from common.metrics import FrameResults, SegmentationScores, average_precision
from tools.reproduce.results import Figure, Metric, Score
from tools.reproduce.table import Kind, Row

__all__ = ["CLASSIFIER_METRICS", "COST_METRICS", "FRAMES_KIND", "GATED_METRICS", "SEGMENTER_METRICS",
           "read_classifier", "read_cost", "read_gated", "read_segmenter"]  # fmt: skip

_LOW_IS_GOOD = ("FPR", "FNR")
CLASSIFIER_METRICS = (
    Metric("auroc", "AUROC", statistic="auroc"),
    *(
        Metric(name, name, higher_is_better=name not in _LOW_IS_GOOD)
        for name in ("accuracy", "sensitivity", "specificity", "precision", "NPV", "FPR", "FNR")
    ),
)
_OF_FRAMES = ("DSC", "IoU", "accuracy", "sensitivity", "specificity", "precision", "FPR", "FNR")
SEGMENTER_METRICS = (
    *(Metric(name, name, higher_is_better=name not in _LOW_IS_GOOD) for name in _OF_FRAMES),
    Metric("AUPRC", "AUPRC, of all frames' pixels", statistic="average_precision"),
)
GATED_METRICS = (
    Metric("DSC", "DSC, all frames"),
    Metric("positives", "DSC, frames with tissue"),
    Metric("false_alarm", "false alarms, of frames without tissue", higher_is_better=False),
    Metric("missed", "missed, of frames with tissue", higher_is_better=False),
    Metric("opened", "frames that pass", higher_is_better=None),
)
COST_METRICS = (
    Metric("million", "parameters", "million", higher_is_better=None, decimals=2),
    Metric("gflops", "operations a frame", "GFLOP", higher_is_better=False, decimals=1),
    Metric("milliseconds", "time a frame", "ms", higher_is_better=False, decimals=1),
    Metric("per_second", "frames a second", "1/s", decimals=1),
)


def _subjects(cases: Any) -> dict[str, tuple[str, list[Path]]]:
    return {
        frame.id: (frame.patient or frame.id, [Path(str(frame.image))] if Path(str(frame.image)).is_file() else [])
        for frame in cases.frames
    }


FRAMES_KIND = Kind("frames", _subjects, {"phantom_sequences": 10, "phantom_length": 8, "phantom_size": [32, 48]})


def read_classifier(row: Row, folder: Path, fold: int | None) -> tuple[list[Score], list[Figure]]:
    """Read what ``evaluate_classifier.json`` wrote; rates are means over the frames that they are rates of."""
    scores = []
    threshold = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["threshold"]
    with open(folder / FRAMES, newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            present, probability = int(line["present"]), float(line["p_present"])
            says = int(probability >= threshold)
            where = (row.model.key, fold, line["id"], line["patient"])
            scores.append(Score(*where, "auroc", probability, truth=present))
            scores.append(Score(*where, "accuracy", float(says == present)))
            rates = {"sensitivity": says, "FNR": 1 - says} if present else {"specificity": 1 - says, "FPR": says}
            rates |= {"precision": present} if says else {"NPV": 1 - present}
            scores += [Score(*where, name, float(value)) for name, value in rates.items()]
    return scores, []


def read_segmenter(row: Row, folder: Path, fold: int | None) -> tuple[list[Score], list[Figure]]:
    """Read what ``evaluate.json`` wrote of stage 2 by itself, on the frames on which something is drawn."""
    results = FrameResults.load(folder / "frames.npz")
    chosen = np.flatnonzero(results.counts.present)
    counts = results.counts.only(results.counts.present)
    found, precisions = SegmentationScores(counts), average_precision(counts.histograms)
    scores = [
        Score(row.model.key, fold, results.ids[at], results.patients[at], name, float(found.frames[name][place]))
        for place, at in enumerate(chosen)
        for name in _OF_FRAMES
        if not np.isnan(found.frames[name][place])
    ]
    for place, at in enumerate(chosen):
        where, curve = (row.model.key, fold, results.ids[at], results.patients[at]), counts.histograms[place].ravel()
        scores.append(Score(*where, "AUPRC", float(precisions[place]), curve=curve))
    return scores, []


def read_gated(row: Row, folder: Path, fold: int | None) -> tuple[list[Score], list[Figure]]:
    """Read both stages end to end, at the row's ``gate`` (0: always open; above 1: always closed)."""
    results = FrameResults.load(folder / "frames.npz")
    opened = results.opened(row.options["gate"])
    counts = results.counts.gated(opened)
    dice = SegmentationScores(counts).frames["DSC"]
    marked = counts.confusion[:, :2].sum(axis=1) > 0  # true and false positives
    scores = []
    for at, present in enumerate(counts.present):
        where = (row.model.key, fold, results.ids[at], results.patients[at])
        scores.append(Score(*where, "DSC", float(dice[at])))
        scores.append(Score(*where, "opened", float(opened[at])))
        if present:
            scores.append(Score(*where, "positives", float(dice[at])))
            scores.append(Score(*where, "missed", float(not marked[at])))
        else:
            scores.append(Score(*where, "false_alarm", float(marked[at])))
    return scores, []


def read_cost(row: Row, folder: Path, fold: int | None) -> tuple[list[Score], list[Figure]]:
    """Read the table of ``tools.benchmark.frames``; nothing of a model that it left out."""
    content = json.loads((folder / "cost.json").read_text(encoding="utf-8"))
    for line in content["results"]["models"]:
        if line["model"] != row.model.key:
            continue
        (times,) = line["times"].values()
        key, half, low, high = row.model.key, times["ms_p50"], times["ms_p0"], times["ms_p100"]
        return [], [
            Figure(key, "million", line["parameters_with_statistics"] / 1e6),
            Figure(key, "gflops", line["flops_table_5"] / 1e9),
            Figure(key, "milliseconds", half, content["frames"], low, high),
            Figure(key, "per_second", 1000 / half, content["frames"], 1000 / high, 1000 / low),
        ]
    return [], []

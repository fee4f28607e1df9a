"""From what evaluations wrote to scores."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from common.errors import InputError
from common.metrics import FrameResults, SegmentationScores, SequenceCurves
from common.metrics.classification import FramePresence
from common.metrics.frame_segmentation import FrameCounts
from tools.paired import average_precision_of
from tools.reproduce.results import Figure, Model
from tools.reproduce.table import Row
from tools.reproduce.tables import frames, spine, video

ROW = Row(Model("m", "M"))


def write(path: Path, rows: list[dict[str, object]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def values(scores, metric: str, structure: str = "") -> dict[str, float]:
    return {score.case: score.value for score in scores if (score.metric, score.structure) == (metric, structure)}


def test_spine(tmp_path):
    empty = dict.fromkeys(("dice", "named_right", "hd95_mm", "msd_mm"), "")
    write(
        tmp_path / "dice.csv",
        [
            {"case": "a", "subject": "A", "structure": "L5"}
            | empty
            | {"dice": "0.5", "named_right": "1.0", "hd95_mm": "4"},
            {"case": "a", "subject": "A", "structure": "L4"}
            | empty
            | {"dice": "0.7", "named_right": "0.0", "hd95_mm": "6"},
            {"case": "a", "subject": "A", "structure": "L3"} | empty,
        ],
    )
    case = {"case": "a", "subject": "A", "dice": "0.6", "vertebrae": "0.6", "merged_vertebrae": "0.8", "discs": ""}
    write(tmp_path / "cases.csv", [case])
    scores, figures = spine.read_evaluation(ROW, tmp_path, 3)
    assert figures == [] and {(score.model, score.fold, score.subject) for score in scores} == {("m", 3, "A")}
    assert values(scores, "dice", "L5") == {"a": 0.5} and values(scores, "dice", "L3") == {}
    assert values(scores, "dice") == {"a": 0.6} == values(scores, "vertebrae") and values(scores, "discs") == {}
    assert values(scores, "merged_vertebrae") == {"a": 0.8}
    assert values(scores, "named_right") == {"a": 0.5} and values(scores, "hd95") == {"a": 5.0}
    assert values(scores, "msd") == {}


def test_video(tmp_path):
    """The maxima of the set are of curves, and every figure has all its digits."""
    rng = np.random.default_rng(0)
    curves, means = rng.random((2, 4, 256)), np.array([[0.1, 0.25], [0.3, np.nan]])
    np.savez_compressed(tmp_path / "curves.npz", **SequenceCurves(["1", "2"], ["A", "A"], curves, means).arrays())
    scores, figures = video.read_evaluation(ROW, tmp_path, 0)
    assert figures == [] and {(score.model, score.fold, score.subject) for score in scores} == {("m", 0, "A")}
    assert values(scores, "Dice") == {"1": 0.25} and values(scores, "MAE") == {"1": 0.1, "2": 0.3}
    assert values(scores, "meanSpe") == pytest.approx(dict(zip("12", curves[:, 2].mean(axis=1), strict=True)))
    assert values(scores, "meanSen") == pytest.approx(dict(zip("12", curves[:, 3].mean(axis=1), strict=True)))
    for metric, at in (("maxDice", 0), ("maxIoU", 1), ("maxSpe", 2)):
        own = dict(zip("12", curves[:, at].max(axis=1), strict=True))
        assert values(scores, metric) == own == values(scores, f"sequence_{metric}")
        kept = [score.curve for score in scores if score.metric == metric]
        np.testing.assert_array_equal(kept, curves[:, at])
    assert {score.metric for score in scores} == {metric.key for metric in video.METRICS}


def test_video_of_an_earlier_version(tmp_path):
    with pytest.raises(InputError, match=r"curves\.npz: does not exist; delete that folder and evaluate again"):
        video.read_evaluation(ROW, tmp_path, 0)


def test_classifier(tmp_path):
    """Rates are means over the frames that they are rates of."""
    said = [("a", 1, 0.9), ("b", 1, 0.2), ("c", 0, 0.7), ("d", 0, 0.1), ("e", 0, 0.3)]
    rows = [{"id": name, "patient": "P", "present": present, "p_present": p} for name, present, p in said]
    write(tmp_path / "frames.csv", rows)
    (tmp_path / "summary.json").write_text('{"threshold": 0.5}', encoding="utf-8")
    scores, _ = frames.read_classifier(ROW, tmp_path, 0)
    mean = {metric.key: np.mean(list(values(scores, metric.key).values())) for metric in frames.CLASSIFIER_METRICS[1:]}
    assert mean == pytest.approx(
        {"accuracy": 3 / 5, "sensitivity": 1 / 2, "specificity": 2 / 3, "precision": 1 / 2, "NPV": 2 / 3,
         "FPR": 1 / 3, "FNR": 1 / 2}
    )  # fmt: skip
    assert {score.case: score.truth for score in scores if score.metric == "auroc"} == {
        name: present for name, present, _ in said
    }


@pytest.fixture
def evaluated(tmp_path) -> Path:
    """Three frames: found in part, missed by the gate, and a false alarm on an empty one."""
    numbers = np.arange(3)
    confusion = np.array([[10, 10, 70, 10], [20, 0, 80, 0], [0, 5, 95, 0]])
    histograms = np.zeros((3, 2, 512), np.int64)
    histograms[:, 0, 0], histograms[:, 0, -1] = confusion[:, 2], confusion[:, 1]
    histograms[:, 1, 0], histograms[:, 1, -1] = confusion[:, 3], confusion[:, 0]
    results = FrameResults(
        ["a", "b", "c"], ["P", "P", "Q"], FramePresence(numbers, np.array([0.9, 0.4, 0.6]), np.array([1, 1, 0]) > 0),
        FrameCounts(numbers, confusion, histograms),
    )  # fmt: skip
    np.savez_compressed(tmp_path / "frames.npz", **results.arrays())
    return tmp_path


def test_segmenter(evaluated):
    """Frames without tissue are not counted."""
    scores, figures = frames.read_segmenter(ROW, evaluated, None)
    assert values(scores, "DSC") == pytest.approx({"a": 0.5, "b": 1.0})
    assert figures == []
    # a: 10 pixels of each kind at the top, 10 of 100 inside at the bottom; b: all right.
    assert values(scores, "AUPRC") == pytest.approx({"a": 0.5 * 0.5 + 0.5 * 20 / 100, "b": 1.0})
    histograms = np.stack([score.curve for score in scores if score.metric == "AUPRC"])
    whole = SegmentationScores(FrameResults.load(evaluated / "frames.npz").counts.only(np.array([True, True, False])))
    assert average_precision_of(histograms)(np.ones((1, 2))) == pytest.approx([whole.values()["AUPRC"]])


@pytest.mark.parametrize(
    ("gate", "dice", "missed", "alarms"),
    [
        (0.0, {"a": 0.5, "b": 1.0, "c": 0.0}, {"a": 0, "b": 0}, {"c": 1}),
        (0.5, {"a": 0.5, "b": 0.0, "c": 0.0}, {"a": 0, "b": 1}, {"c": 1}),
        (0.75, {"a": 0.5, "b": 0.0, "c": 1.0}, {"a": 0, "b": 1}, {"c": 0}),
        (1.1, {"a": 0.0, "b": 0.0, "c": 1.0}, {"a": 1, "b": 1}, {"c": 0}),
    ],
)
def test_gates(evaluated, gate, dice, missed, alarms):
    scores, _ = frames.read_gated(Row(Model("m", "M"), options={"gate": gate}), evaluated, 0)
    assert values(scores, "DSC") == pytest.approx(dice)
    assert values(scores, "positives") == pytest.approx({case: dice[case] for case in "ab"})
    assert values(scores, "missed") == missed and values(scores, "false_alarm") == alarms


def test_cost(tmp_path):
    model = {
        "model": "m",
        "parameters_with_statistics": 2_500_000,
        "flops_table_5": 3e9,
        "times": {"fp32": {"ms_p50": 20.0, "ms_p0": 10.0, "ms_p100": 40.0}},
    }
    (tmp_path / "cost.json").write_text(json.dumps({"frames": 7, "results": {"models": [model]}}), encoding="utf-8")
    _, figures = frames.read_cost(ROW, tmp_path, None)
    assert figures == [
        Figure("m", "million", 2.5), Figure("m", "gflops", 3.0), Figure("m", "milliseconds", 20.0, 7, 10.0, 40.0),
        Figure("m", "per_second", 50.0, 7, 25.0, 100.0),
    ]  # fmt: skip
    assert frames.read_cost(Row(Model("other", "O")), tmp_path, None) == ([], [])

"""Which cases stand for a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.reproduce.report.analysis import Analysis
from tools.reproduce.results import Metric, Model, Results, Score

DICE, HD95 = Metric("dice", "Dice"), Metric("hd95", "HD95", higher_is_better=False)
AUROC = Metric("auroc", "AUROC", statistic="auroc")


def examples(values: dict[str, float], pictured: str = "", metric: Metric = DICE, truths: str = "") -> list[tuple]:
    """Rank, case and value of the examples of cases by name, of which some have pictures."""
    truth = dict(zip(values, map(float, truths), strict=True)) if truths else {}
    scores = [Score("m", 0, case, case, metric.key, value, truth=truth.get(case)) for case, value in values.items()]
    pictures = {("m", 0, case): Path(f"{case}.png") for case in pictured} | {("other", 0, "a"): Path("a.png")}
    results = Results("t", "T", "P", "c", (Model("m", "M"),), (metric,), scores, pictures=pictures)
    return [(one.rank, one.case, one.value) for one in Analysis(results).examples("m", metric)]


def ten() -> dict[str, float]:
    return {name: (9 - at) / 10 for at, name in enumerate("abcdefghij")}


@pytest.mark.parametrize("pictured", ["", "abcdefghij", "aej"])
def test_the_cases_themselves(pictured):
    assert examples(ten(), pictured) == [("best", "a", 0.9), ("median", "e", 0.5), ("worst", "j", 0.0)]


def test_where_lower_is_better():
    assert [(rank, case) for rank, case, _ in examples(ten(), "", HD95)] == [
        ("best", "j"), ("median", "f"), ("worst", "a"),
    ]  # fmt: skip


def test_the_nearest_with_a_picture_says_so():
    assert examples(ten(), "acj") == [
        ("best", "a", 0.9), ("near the median (place 3 of 10)", "c", 0.7), ("worst", "j", 0.0),
    ]  # fmt: skip


def test_a_case_with_the_same_score_is_as_good():
    values = dict.fromkeys("abcd", 1.0) | {"e": 0.5, "f": 0.4, "g": 0.0, "h": 0.0}
    assert examples(values, "cdg") == [("best", "c", 1.0), ("median", "d", 1.0), ("worst", "g", 0.0)]


def test_more_examples_than_pictures():
    """What is left has none, and is the case itself."""
    assert examples(ten(), "a") == [("best", "a", 0.9), ("median", "e", 0.5), ("worst", "j", 0.0)]


def test_auroc_ranks_by_how_far_the_score_is_from_the_truth():
    values = {"a": 0.9, "b": 0.2, "c": 0.7, "d": 0.4}
    assert examples(values, "", AUROC, "1010") == [("best", "a", 0.9), ("median", "b", 0.2), ("worst", "d", 0.4)]


def test_two_cases_and_one():
    assert examples({"a": 0.1, "b": 0.2}) == [("best", "b", 0.2), ("worst", "a", 0.1)]
    assert examples({"a": 0.1}) == [("only case", "a", 0.1)]

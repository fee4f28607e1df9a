from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from common.metrics import Bootstrap
from tools.paired import Difference
from tools.reproduce.report.samples import Sample, Samples
from tools.reproduce.report.statistics import compare_models, holm, summarize, summarize_all
from tools.reproduce.results import Metric, Model, Results, Score

DICE, AUROC = Metric("dice", "Dice"), Metric("auroc", "AUROC", statistic="auroc")


def sample(values: dict[str, float], metric: Metric = DICE, truths: dict[str, float] | None = None) -> Sample:
    """Cases by name, whose first letter is the subject."""
    truth = [np.nan if truths is None else truths[case] for case in values]
    keys = tuple((0, case) for case in values)
    return Sample(metric, keys, tuple(case[0] for case in values), np.array(list(values.values())), np.array(truth))


def samples(*scores: Score, metrics: tuple[Metric, ...] = (DICE,)) -> Samples:
    models = tuple(Model(key, key) for key in dict.fromkeys(score.model for score in scores))
    return Samples(Results("t", "T", "P", "c", models, metrics, scores, structures=("L5", "S")))


def test_mean_and_spread_by_hand():
    summary = summarize(sample({"a1": 0.5, "a2": 0.7, "b1": 0.9}))
    assert (summary.value, summary.sd) == pytest.approx((0.7, 0.2))
    assert (summary.cases, summary.subjects, summary.low, summary.high) == (3, 2, None, None)


def test_one_case_has_no_standard_deviation():
    summary = summarize(sample({"a1": 0.5}))
    assert (summary.value, summary.sd, summary.cases) == (0.5, None, 1)


def test_auroc_by_counting_pairs():
    values = {"a1": 0.9, "b1": 0.4, "c1": 0.4, "d1": 0.1, "e1": 0.7}
    truths = {"a1": 1.0, "b1": 1.0, "c1": 0.0, "d1": 0.0, "e1": 0.0}
    positives, negatives = ([values[case] for case in values if truths[case] == kind] for kind in (1, 0))
    pairs = [(p > n) + (p == n) / 2 for p, n in product(positives, negatives)]
    summary = summarize(sample(values, AUROC, truths))
    assert summary.value == pytest.approx(np.mean(pairs)) == pytest.approx(4.5 / 6)
    assert summary.sd is None


def test_auroc_of_one_class_is_not_defined():
    values = {f"{name}1": 0.1 for name in "abcdef"}
    one_class = sample(values, AUROC, dict.fromkeys(values, 1.0))
    summary = summarize_all({"a": one_class})["a"]
    assert summary.value is summary.low is summary.high is None and summary.cases == 6
    (pair,) = compare_models("auroc", {"a": one_class, "b": one_class})
    assert pair.difference is None and pair.resampled == Difference() and pair.corrected is None


def test_the_maximum_of_the_mean_curve_and_its_interval():
    """Five subjects peak at five thresholds: a resample's figure is the share of the subject drawn most often."""
    metric = Metric("maxDice", "maxDice of the set", statistic="maximum")
    scores = [
        Score("x", 0, name, name, "maxDice", 1.0, curve=curve) for name, curve in zip("abcde", np.eye(5), strict=True)
    ]
    sampled = samples(*scores, metrics=(metric,)).of("x", "maxDice")
    summary = summarize_all({"x": sampled})["x"]
    assert (summary.value, summary.sd, summary.cases, summary.subjects) == (pytest.approx(0.2), None, 5, 5)
    shares = np.concatenate([weights.max(axis=1) / 5 for weights in Bootstrap(5).weights()])
    assert (summary.low, summary.high) == pytest.approx(tuple(np.quantile(shares, [0.025, 0.975])))
    assert (summary.low, summary.high) == pytest.approx((0.2, 0.8))
    kept = sampled.where(lambda key: key[1] in "ab")
    assert summarize(kept).value == pytest.approx(0.5)


def test_models_are_compared_by_their_mean_curves():
    metric = Metric("maxDice", "maxDice of the set", statistic="maximum")
    scores = [
        Score(model, 0, name, name, "maxDice", level, curve=np.array([level, 0.0]))
        for model, level in (("x", 0.5), ("y", 0.7))
        for name in "abcde"
    ]
    found = samples(*scores, metrics=(metric,))
    (pair,) = compare_models("maxDice", {model: found.of(model, "maxDice") for model in "xy"})
    assert (pair.difference, pair.resampled.low, pair.resampled.high) == pytest.approx((0.2, 0.2, 0.2))


def test_an_interval_is_of_whole_subjects():
    values = {"a1": 0.2, "b1": 0.4, "c1": 0.9, "c2": 0.9, "d1": 0.5, "e1": 0.6}
    summary = summarize_all({"a": sample(values)})["a"]
    numbers = np.array(list(values.values()))
    drawn = np.concatenate([w @ numbers / w.sum(axis=1) for w in Bootstrap(6, "abccde").weights()])
    assert (summary.low, summary.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))


def test_four_subjects_have_no_interval():
    summary = summarize_all({"a": sample({"a1": 0.2, "b1": 0.4, "c1": 0.9, "c2": 0.9, "d1": 0.5})})["a"]
    assert summary.subjects == 4 and summary.low is summary.high is None


def test_models_are_compared_on_the_cases_that_both_have():
    first = sample({"a1": 0.5, "b1": 0.5, "c1": 0.5, "d1": 0.5, "e1": 0.5, "f1": 0.0})
    second = sample({"e1": 0.6, "d1": 0.6, "c1": 0.6, "b1": 0.6, "a1": 0.6, "g1": 0.0})
    (pair,) = compare_models("dice", {"x": first, "y": second})
    assert (pair.first, pair.second, pair.cases, pair.subjects) == ("x", "y", 5, 5)
    assert (pair.difference, pair.resampled.low, pair.resampled.high) == pytest.approx((0.1, 0.1, 0.1))
    assert pair.resampled.p == pair.corrected == pytest.approx(2 / 2001)


def test_pairs_come_with_the_first_model_first_and_are_corrected_together():
    rng = np.random.default_rng(1)
    cases = [f"{name}1" for name in "abcdefgh"]
    models = {
        key: sample(dict(zip(cases, level + 0.1 * rng.random(8), strict=True)))
        for key, level in (("x", 0.5), ("y", 0.52), ("z", 0.7))
    }
    models["few"] = sample({"a1": 0.1, "b1": 0.2})
    models["apart"] = sample({"z9": 0.5})
    pairs = compare_models("dice", models)
    named = [(one.first, one.second) for one in pairs]
    assert named == [("x", "y"), ("x", "z"), ("x", "few"), ("y", "z"), ("y", "few"), ("z", "few")]
    tested = [one for one in pairs if one.resampled.p is not None]
    assert [(one.first, one.second) for one in tested] == [("x", "y"), ("x", "z"), ("y", "z")]
    assert [one.corrected for one in tested] == holm([one.resampled.p for one in tested])
    assert [one.corrected for one in pairs if one.second == "few"] == [None] * 3


def test_holm_by_hand():
    """Times 4, 3, 2, 1 from the smallest on, then none below one before it: 0.04, 0.06, 0.06, 0.06 for these."""
    assert holm([0.01, 0.04, 0.03, 0.02]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.5, 0.001, 0.6]) == pytest.approx([1.0, 0.003, 1.0])
    assert holm([0.2]) == [0.2] and holm([]) == []


def test_a_case_without_a_score_as_a_whole_is_the_mean_of_its_structures():
    found = samples(
        Score("x", 0, "c", "A", "dice", 0.4, "L5"), Score("x", 0, "c", "A", "dice", 0.8, "S"),
        Score("x", 1, "d", "", "dice", 0.5, "S"),
    )  # fmt: skip
    whole = found.of("x", "dice")
    assert whole.keys == ((0, "c"), (1, "d")) and whole.subjects == ("A", "d")
    assert whole.values == pytest.approx([0.6, 0.5]) and found.averaged == {"dice"}
    assert found.structures("dice", ("S", "T9", "L5")) == ["S", "L5"]


def test_no_mean_of_structures_beside_scores_as_a_whole():
    """One model's cases are not to be measured by another rule than another's."""
    found = samples(Score("x", 0, "c", "A", "dice", 0.4, "L5"), Score("y", 0, "c", "A", "dice", 0.5))
    assert len(found.of("x", "dice")) == 0 and len(found.of("y", "dice")) == 1 and not found.averaged

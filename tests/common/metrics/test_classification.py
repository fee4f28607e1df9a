from __future__ import annotations

import logging
import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.metrics import compute_roc_auc

from common.metrics.bootstrap import Bootstrap
from common.metrics.classification import (
    CLASSIFICATION_SCORES,
    ClassificationMetric,
    ClassificationScores,
    precision_recall_curve,
    roc_curve,
)


def auroc(p, y) -> float:
    """The share of pairs of a positive and a negative that are in order; ties count half."""
    pairs = [(a > b) + (a == b) / 2 for a, i in zip(p, y, strict=True) if i for b, j in zip(p, y, strict=True) if not j]
    return sum(pairs) / len(pairs)


def drawn(seed: int, count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities in steps of a tenth, so that many tie, which agree with the classes somewhat."""
    rng = np.random.default_rng(seed)
    y = rng.random(count) < 0.4
    return np.clip(np.round(rng.random(count) * 0.7 + 0.3 * y, 1), 0, 1), y


class TestScores:
    def test_by_hand(self):
        p, y = [0.9, 0.5, 0.4, 0.8, 0.2, 0.1, 0.1], [1, 1, 1, 0, 0, 0, 0]
        scores = ClassificationScores(p, y).values()
        assert tuple(scores) == CLASSIFICATION_SCORES
        assert scores == pytest.approx(
            {"AUROC": 10 / 12, "accuracy": 5 / 7, "sensitivity": 2 / 3, "specificity": 3 / 4, "precision": 2 / 3,
             "F1": 2 / 3, "FPR": 1 / 4, "FNR": 1 / 3, "NPV": 3 / 4}
        )  # fmt: skip
        assert ClassificationScores(p, y, threshold=0.51).values()["sensitivity"] == pytest.approx(1 / 3)

    @pytest.mark.parametrize("seed", range(4))
    def test_auroc_with_ties(self, seed):
        p, y = drawn(seed)
        found = ClassificationScores(p, y).values()["AUROC"]
        assert found == pytest.approx(auroc(p, y))
        assert found == pytest.approx(compute_roc_auc(torch.tensor(p), torch.tensor(y).double()))

    def test_weights_are_repetitions(self):
        p, y = drawn(5)
        weights = np.random.default_rng(5).integers(0, 4, (6, len(p))).astype(float)
        found = ClassificationScores(p, y)(weights)
        for row, counts in enumerate(weights.astype(int)):
            repeated = ClassificationScores(p.repeat(counts), y.repeat(counts)).values()
            assert {name: values[row] for name, values in found.items()} == pytest.approx(repeated)
            assert found["AUROC"][row] == pytest.approx(auroc(p.repeat(counts), y.repeat(counts)))

    @pytest.mark.parametrize(
        ("present", "missing", "undefined"),
        [(1, "negatives", {"AUROC", "specificity", "FPR"}), (0, "positives", {"AUROC", "sensitivity", "FNR"})],
    )
    def test_one_class_only(self, present, missing, undefined, caplog):
        with caplog.at_level(logging.WARNING):
            scores = ClassificationScores([0.2, 0.7], [present] * 2).values()
        assert {name for name, value in scores.items() if math.isnan(value)} == undefined
        assert scores["accuracy"] == 0.5
        assert caplog.messages == [f"There are no {missing}: AUROC and what else needs both classes are not defined"]

    def test_nothing_called(self):
        scores = ClassificationScores([0.2, 0.4], [0, 1]).values()
        assert math.isnan(scores["precision"]) and scores["NPV"] == 0.5 and scores["F1"] == 0

    @pytest.mark.parametrize(("p", "y"), [([], []), ([0.1], [1, 0]), ([math.nan, 0.1], [1, 0])])
    def test_not_valid(self, p, y):
        with pytest.raises(ValueError):
            ClassificationScores(p, y)

    def test_bootstrap(self):
        p, y = drawn(6, 200)
        bootstrap = Bootstrap(200, samples=300)
        intervals = bootstrap.intervals(ClassificationScores(p, y))
        assert set(intervals) == set(CLASSIFICATION_SCORES)
        assert all(found.low < found.value < found.high for found in intervals.values())
        assert intervals == Bootstrap(200, samples=300).intervals(ClassificationScores(p, y))
        # Hanley and McNeil's standard error of an AUROC A is near sqrt(A (1 - A) / the smaller class) or below.
        auc = intervals["AUROC"]
        assert 0.05 < auc.high - auc.low < 4 * math.sqrt(auc.value * (1 - auc.value) / y.sum())


class TestCurves:
    @pytest.mark.parametrize("seed", range(3))
    def test_points(self, seed):
        p, y = drawn(seed)
        fpr, tpr, thresholds = roc_curve(p, y)
        precision, recall, same = precision_recall_curve(p, y)
        assert (thresholds[1:] == same).all() and list(same) == sorted(set(p), reverse=True)
        assert (fpr[0], tpr[0], thresholds[0], fpr[-1], tpr[-1]) == (0, 0, math.inf, 1, 1)
        for at, threshold in enumerate(same):
            scores = ClassificationScores(p, y, threshold).values()
            assert (fpr[at + 1], tpr[at + 1]) == pytest.approx((scores["FPR"], scores["sensitivity"]))
            assert (precision[at], recall[at]) == pytest.approx((scores["precision"], scores["sensitivity"]))
        assert np.trapezoid(tpr, fpr) == pytest.approx(auroc(p, y))

    def test_one_class_only(self):
        fpr, tpr, _ = roc_curve([0.1, 0.2], [1, 1])
        assert np.isnan(fpr).all() and list(tpr) == [0, 0.5, 1]
        precision, recall, _ = precision_recall_curve([0.1, 0.2], [0, 0])
        assert list(precision) == [0, 0] and np.isnan(recall).all()


class TestMetric:
    def test_collects_each_frame_once(self):
        p, y = drawn(7, 12)
        metric = ClassificationMetric()
        order = np.random.default_rng(0).permutation(12)
        for batch in (order[:5], order[5:10], order[8:]):
            metric(torch.tensor(p[batch])[:, None].float(), torch.tensor(y[batch])[:, None].float(), frame=batch)
        found = metric.collected()
        assert list(found.numbers) == list(range(12)) and (found.present == y).all()
        assert found.probabilities == pytest.approx(p)
        assert metric.aggregate().item() == pytest.approx(auroc(p, y))
        assert found.scores(0.3).values()["sensitivity"] == pytest.approx((p[y] >= 0.3).mean())
        metric.reset()
        assert metric.collected() is None and math.isnan(metric.aggregate().item())

    def test_lists_of_one_value(self):
        metric = ClassificationMetric("accuracy", threshold=0.6)
        metric([MetaTensor(torch.tensor([0.7])), torch.tensor([0.55])], [torch.tensor([1.0])] * 2, frame=[4, 2])
        assert metric.aggregate().item() == 0.5 and list(metric.collected().numbers) == [2, 4]

    def test_errors(self):
        with pytest.raises(ValueError, match="one of AUROC"):
            ClassificationMetric("Dice")
        with pytest.raises(ValueError, match="of each frame"):
            ClassificationMetric()(torch.ones(2), torch.ones(2), frame=[1])


def test_something_else_decides_than_the_threshold():
    scores = ClassificationScores([0.9, 0.2, 0.8], [True, True, False], called=[False, True, True]).values()
    assert (scores["sensitivity"], scores["FPR"], scores["AUROC"]) == (0.5, 1.0, 0.5)
    with pytest.raises(ValueError, match="expected 3 decisions, got"):
        ClassificationScores([0.9, 0.2, 0.8], [True, True, False], called=[True])

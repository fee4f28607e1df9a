from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.tools.reproduce.made_results import DICE, classifier_results, cost_results, with_score
from tools.reproduce.report.checks import check_results
from tools.reproduce.results import Figure, Job, Metric, Model, Published, Results, Score, State

SCORE = Score("a", 0, "c", "S", "dice", 0.5)
GOOD = Results("t", "T", "P", "command", (Model("a", "A"), Model("b", "B")), (DICE,), (SCORE,), structures=("L5",))
FIGURE = Figure("b", "dice", 1.0)
MAXIMUM, CURVED = replace(DICE, statistic="maximum"), replace(SCORE, curve=np.ones(2))
JOB = Job("j", "a", 0, "train", State.DONE, "train")


def test_good_ones_pass():
    for results in (GOOD, cost_results(), classifier_results(), replace(GOOD, figures=(FIGURE,), jobs=(JOB,))):
        check_results(results)
    check_results(replace(GOOD, metrics=(MAXIMUM,), scores=(CURVED,)))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (replace(GOOD, command=""), "a table without its command"),
        (replace(GOOD, models=(), scores=()), "a table without models"),
        (replace(GOOD, models=(Model("a", "A"), Model("a", "B"))), "a model that is there twice: a"),
        (replace(GOOD, metrics=(DICE, DICE)), "a metric that is there twice: dice"),
        (replace(GOOD, structures=("L5", "L5")), "a structure that is there twice: L5"),
        (replace(GOOD, jobs=(JOB, JOB)), "a job that is there twice: j"),
        (replace(GOOD, scores=(SCORE, replace(SCORE, value=0.6))), "a score that is there twice"),
        (replace(GOOD, figures=(FIGURE, FIGURE)), "a figure that is there twice"),
        (with_score(GOOD, value=float("nan")), "a score that is no finite number"),
        (with_score(GOOD, value=float("inf")), "a score that is no finite number"),
        (with_score(GOOD, model="x"), "a figure of an unknown model"),
        (with_score(GOOD, metric="x"), "a figure of an unknown metric"),
        (with_score(GOOD, structure="S"), "a score of an unknown structure"),
        (replace(GOOD, jobs=(replace(JOB, model="x"),)), "a job of an unknown model: j"),
        (replace(GOOD, metrics=(replace(DICE, statistic="median"),)), "an unknown statistic: median"),
        (replace(GOOD, metrics=(replace(DICE, statistic="auroc"),)), "a score without a truth of 0 or 1"),
        (replace(GOOD, pictures={("x", 0, "c"): Path("c.png")}), "a picture of an unknown model: x, c"),
        (replace(GOOD, metrics=(MAXIMUM,)), "a score without a curve of finite numbers: dice of c"),
        (
            replace(GOOD, metrics=(MAXIMUM,), scores=(replace(SCORE, curve=np.array([0.5, np.nan])),)),
            "a score without a curve of finite numbers: dice of c",
        ),
        (
            replace(GOOD, metrics=(MAXIMUM,), scores=(CURVED, replace(CURVED, case="d", curve=np.ones(3)))),
            "curves of several lengths for dice",
        ),
        (replace(GOOD, scores=(SCORE, replace(SCORE, fold=1, subject="R"))), "case c is of two subjects: S and R"),
        (replace(GOOD, figures=(replace(FIGURE, model="a"),)), "a figure beside scores of the same metric"),
        (replace(GOOD, figures=(replace(FIGURE, value=float("nan")),)), "a figure that is no finite number"),
        (replace(GOOD, figures=(replace(FIGURE, repeats=3, low=0.5),)), "repeats without their range"),
        (
            replace(GOOD, models=(Model("a", "A", {"dice": Published(float("nan"))}),)),
            "the paper's dice of a is no finite number",
        ),
        (
            replace(GOOD, models=(Model("a", "A", published_folds={"dice": {0: Published(float("inf"))}}),)),
            "the paper's dice of a is no finite number",
        ),
        (
            replace(GOOD, models=(Model("a", "A", published_folds={"dice": {0: Published(0.5)}}),)),
            "the paper's dice of a fold of a does not say from where",
        ),
    ],
)
def test_bad_ones_are_refused(bad, says):
    with pytest.raises(ValueError, match=f"^{says}"):
        check_results(bad)


def test_models_do_not_disagree_about_the_truth():
    metric = Metric("auroc", "AUROC", statistic="auroc")
    scores = tuple(Score(model, None, "c", "S", "auroc", 0.5, truth=truth) for model, truth in (("a", 0.0), ("b", 1.0)))
    with pytest.raises(ValueError, match=r"^case c has two truths for auroc"):
        check_results(replace(GOOD, metrics=(metric,), scores=scores))

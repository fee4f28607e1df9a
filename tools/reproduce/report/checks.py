"""What has to hold of results before a figure is made of them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable

import numpy as np

from tools.reproduce.results import Results

__all__ = ["check_results"]

_CURVED = ("maximum", "average_precision")  # statistics that need each score's curve


def check_results(results: Results) -> None:
    """Refuse results that no honest table can be made of.

    Args:
        results: of whoever ran the table. What is wrong here is the caller's mistake, not the user's.

    Raises:
        ValueError: something is named twice or not defined, is not a finite number, or lacks what has to stand beside
            it: a command, the truth that a statistic needs, the range of what was repeated.
    """
    _require(bool(results.command), "a table without its command")
    _require(bool(results.models), "a table without models")
    for what, keys in {
        "model": [model.key for model in results.models],
        "metric": [metric.key for metric in results.metrics],
        "structure": list(results.structures),
        "job": [job.key for job in results.jobs],
        "score": [(s.model, s.fold, s.case, s.metric, s.structure) for s in results.scores],
        "figure": [(figure.model, figure.metric) for figure in results.figures],
    }.items():
        _once(what, keys)
    _check_names(results)
    _check_scores(results)
    _check_figures(results)


def _check_names(results: Results) -> None:
    models, metrics = {model.key for model in results.models}, {metric.key for metric in results.metrics}
    structures = {"", *results.structures}
    for entry in (*results.scores, *results.figures):
        _require(entry.model in models, f"a figure of an unknown model: {entry}")
        _require(entry.metric in metrics, f"a figure of an unknown metric: {entry}")
    for score in results.scores:
        _require(score.structure in structures, f"a score of an unknown structure: {score}")
    for model, _, case in results.pictures:
        _require(model in models, f"a picture of an unknown model: {model}, {case}")
    for job in results.jobs:
        _require(job.model in models, f"a job of an unknown model: {job.key}")
    for metric in results.metrics:
        _require(metric.statistic in ("mean", "auroc", *_CURVED), f"an unknown statistic: {metric.statistic}")


def _check_scores(results: Results) -> None:
    ranked, curved = (
        {metric.key for metric in results.metrics if metric.statistic in kinds} for kinds in (("auroc",), _CURVED)
    )
    subjects: dict[str, str] = {}
    truths: dict[Hashable, float | None] = {}
    lengths: dict[str, int] = {}
    for score in results.scores:
        _require(math.isfinite(score.value), f"a score that is no finite number: {score}")
        same = subjects.setdefault(score.case, score.subject)
        _require(same == score.subject, f"case {score.case} is of two subjects: {same} and {score.subject}")
        if score.metric in ranked:
            _require(score.truth in (0, 1), f"a score without a truth of 0 or 1: {score}")
            told = truths.setdefault((score.metric, score.case, score.structure), score.truth)
            _require(told == score.truth, f"case {score.case} has two truths for {score.metric}")
        if score.metric in curved:
            fits = score.curve is not None and score.curve.ndim == 1 and bool(np.isfinite(score.curve).all())
            _require(fits, f"a score without a curve of finite numbers: {score.metric} of {score.case}")
            length = lengths.setdefault(score.metric, len(score.curve))
            _require(length == len(score.curve), f"curves of several lengths for {score.metric}")


def _check_figures(results: Results) -> None:
    scored = {(score.model, score.metric) for score in results.scores}
    for figure in results.figures:
        _require((figure.model, figure.metric) not in scored, f"a figure beside scores of the same metric: {figure}")
        numbers = [figure.value, *(bound for bound in (figure.low, figure.high) if bound is not None)]
        _require(all(map(math.isfinite, numbers)), f"a figure that is no finite number: {figure}")
        _require(figure.repeats is None or len(numbers) == 3, f"repeats without their range: {figure}")
    for model in results.models:
        of_folds = [(key, one) for key, folds in model.published_folds.items() for one in folds.values()]
        for key, published in (*model.published.items(), *of_folds):
            _require(math.isfinite(published.value), f"the paper's {key} of {model.key} is no finite number")
        for key, published in of_folds:
            _require(bool(published.where), f"the paper's {key} of a fold of {model.key} does not say from where")


def _once(what: str, keys: Iterable[Hashable]) -> None:
    seen: set[Hashable] = set()
    for key in keys:
        _require(key not in seen, f"a {what} that is there twice: {key}")
        seen.add(key)


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise ValueError(problem)

"""The scores of a model, put together as what statistics are made of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from common.metrics import ClassificationScores
from tools.paired import Resampled, average_precision_of, maximum_of_mean, mean_of
from tools.reproduce.results import Metric, Results, Score

__all__ = ["Sample", "Samples"]

Key = tuple[int | None, str]


@dataclass(frozen=True)
class Sample:
    """The scores of one model by one metric, of N cases.

    Args:
        metric: says how the sample's figure comes from them.
        keys: fold and case, N, in a fixed order.
        subjects: of the cases, N.
        values: (N,).
        truths: (N,), 0 or 1 where the statistic needs them.
        curves: (N, T), where the statistic needs them.
    """

    metric: Metric
    keys: tuple[Key, ...]
    subjects: tuple[str, ...]
    values: np.ndarray
    truths: np.ndarray
    curves: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def folds(self) -> set[int | None]:
        """The folds that the cases are of."""
        return {fold for fold, _ in self.keys}

    def figure(self) -> Resampled:
        """Return what gives the sample's figure, of all cases or of resamples; NaN where it is not defined."""
        if self.metric.statistic == "auroc":
            scores = ClassificationScores(self.values, self.truths)
            return lambda weights: scores(weights)["AUROC"]
        if self.metric.statistic == "maximum":
            return maximum_of_mean(self.curves)
        if self.metric.statistic == "average_precision":
            return average_precision_of(self.curves)
        return mean_of(self.values)

    def where(self, keep: Callable[[Key], bool]) -> Sample:
        """Return the cases whose fold and case are to be kept."""
        chosen = [at for at, key in enumerate(self.keys) if keep(key)]
        keys, subjects = (tuple(column[at] for at in chosen) for column in (self.keys, self.subjects))
        curves = None if self.curves is None else self.curves[chosen]
        return Sample(self.metric, keys, subjects, self.values[chosen], self.truths[chosen], curves)


class Samples:
    """All scores of a table, found by model, metric and structure.

    Args:
        results: checked ones (:func:`tools.reproduce.report.checks.check_results`).
    """

    def __init__(self, results: Results) -> None:
        self._metrics = {metric.key: metric for metric in results.metrics}
        self._scores: dict[tuple[str, str, str], list[Score]] = defaultdict(list)
        for score in results.scores:
            self._scores[score.model, score.metric, score.structure].append(score)
        self._samples: dict[tuple[str, str, str], Sample] = {}  # asked for again and again
        whole = {metric for _, metric, structure in self._scores if not structure}
        only_parts = {metric for _, metric, _ in self._scores} - whole
        self.averaged = {key for key in only_parts if self._metrics[key].statistic == "mean"}
        """Metrics of which no case has a score as a whole: a case's is the mean over its structures."""
        for model in results.models:
            for metric in self.averaged:
                self._scores[model.key, metric, ""] = self._means(model.key, metric)

    def of(self, model: str, metric: str, structure: str = "") -> Sample:
        """Return the scores of a model, none where it has none.

        Args:
            model: its key.
            metric: its key.
            structure: empty for the cases as a whole.
        """
        key = model, metric, structure
        if key not in self._samples:
            self._samples[key] = self._sample(metric, sorted(self._scores.get(key, []), key=_order))
        return self._samples[key]

    def _sample(self, metric: str, scores: Sequence[Score]) -> Sample:
        curves = [score.curve for score in scores if score.curve is not None]
        return Sample(
            self._metrics[metric],
            tuple((score.fold, score.case) for score in scores),
            tuple(score.subject or score.case for score in scores),
            np.array([score.value for score in scores], np.float64),
            np.array([np.nan if score.truth is None else score.truth for score in scores], np.float64),
            np.array(curves, np.float64) if curves else None,
        )

    def structures(self, metric: str, among: Sequence[str]) -> list[str]:
        """Return those structures of which any model has scores by a metric."""
        scored = {structure for (_, key, structure), scores in self._scores.items() if key == metric and scores}
        return [structure for structure in among if structure in scored]

    def _means(self, model: str, metric: str) -> list[Score]:
        cases: dict[Key, list[Score]] = defaultdict(list)
        for (by, key, structure), scores in self._scores.items():
            if (by, key) == (model, metric) and structure:
                for score in scores:
                    cases[score.fold, score.case].append(score)
        return [
            Score(model, fold, case, scores[0].subject, metric, fmean(score.value for score in scores))
            for (fold, case), scores in cases.items()
        ]


def _order(score: Score) -> tuple[int, str]:
    return (-1 if score.fold is None else score.fold), score.case

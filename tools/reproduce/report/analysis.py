"""All that a report states of results, free of any format."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tools.reproduce.report.progress import Progress, progress_of
from tools.reproduce.report.samples import Sample, Samples
from tools.reproduce.report.statistics import Comparison, Summary, compare_models, summarize, summarize_all
from tools.reproduce.results import Figure, Metric, Results

__all__ = ["Analysis", "Example"]

_PARTS = ("best", "median", "worst")


@dataclass(frozen=True)
class Example:
    """A case that stands for others.

    Args:
        rank: ``best``, ``median`` or ``worst``, or near which of them it is; ``only case`` where there is no other.
        fold: of the case.
        case: its name.
        value: its score.
        truth: what is true of it, where that was needed.
    """

    rank: str
    fold: int | None
    case: str
    value: float
    truth: float | None


class Analysis:
    """The statistics of a table.

    Args:
        results: checked ones (:func:`tools.reproduce.report.checks.check_results`).
    """

    def __init__(self, results: Results) -> None:
        self.results = results
        self.samples = Samples(results)
        self.progress: dict[str, Progress] = {
            model.key: progress_of([job for job in results.jobs if job.model == model.key]) for model in results.models
        }
        self.figures: dict[tuple[str, str], Figure] = {(one.model, one.metric): one for one in results.figures}
        self.titles = {model.key: model.title for model in results.models}

    @cached_property
    def main(self) -> dict[tuple[str, str], Summary]:
        """Figure and interval by model and metric, where there are scores."""
        return summarize_all(
            {
                (model, metric.key): sample
                for metric in self.results.metrics
                for model, sample in self.whole(metric.key).items()
            }
        )

    def whole(self, metric: str, structure: str = "") -> dict[str, Sample]:
        """Return the sample of each model that has scores by a metric, of cases as a whole or of a structure."""
        samples = {model.key: self.samples.of(model.key, metric, structure) for model in self.results.models}
        return {model: sample for model, sample in samples.items() if len(sample)}

    def partial(self, model: str, metric: str, structure: str = "") -> str:
        """Say that a model's scores by a metric are not of all folds; nothing where they are."""
        return self.progress[model].partial(self.samples.of(model, metric, structure).folds)

    @property
    def folds(self) -> list[int]:
        """The folds of the cross-validation; none where there is one split."""
        of_all = {score.fold for score in self.results.scores} | {job.fold for job in self.results.jobs}
        return sorted({fold for fold in of_all | set(self.results.splits) if fold is not None})

    def scored(self) -> list[Metric]:
        """Return the metrics by which any case was scored."""
        keys = {score.metric for score in self.results.scores}
        return [metric for metric in self.results.metrics if metric.key in keys]

    def value(self, model: str, metric: str) -> float | None:
        """Return the figure of a model, whatever it is of; None where there is none."""
        if (figure := self.figures.get((model, metric))) is not None:
            return figure.value
        summary = self.main.get((model, metric))
        return None if summary is None else summary.value

    def best(self, metric: Metric) -> set[str]:
        """Return the models with the best figure, as the table rounds it.

        Partial figures do not compete, as they are of other cases; where fewer than two do, or all are equal, none is
        the best.
        """
        if metric.higher_is_better is None:
            return set()
        values = {model: self.value(model, metric.key) for model in self.titles if self._competes(model, metric.key)}
        rounded = {model: round(value, metric.decimals) for model, value in values.items() if value is not None}
        if len(set(rounded.values())) < 2:
            return set()
        top = (max if metric.higher_is_better else min)(rounded.values())
        return {model for model, value in rounded.items() if value == top}

    def _competes(self, model: str, metric: str) -> bool:
        return (model, metric) in self.figures or not self.partial(model, metric)

    def fold_summary(self, model: str, metric: str, fold: int) -> Summary | None:
        """Return the figure of a model on one fold; None where there are no scores."""
        sample = self.samples.of(model, metric).where(lambda key: key[0] == fold)
        return summarize(sample) if len(sample) else None

    def structure_summary(self, model: str, metric: str, structure: str) -> Summary | None:
        """Return the figure of a model on one structure; None where there are no scores."""
        sample = self.samples.of(model, metric, structure)
        return summarize(sample) if len(sample) else None

    @cached_property
    def comparisons(self) -> dict[str, list[Comparison]]:
        """All pairs of models by metric, where there are scores of at least two."""
        found = {metric.key: compare_models(metric.key, self.whole(metric.key)) for metric in self.scored()}
        return {metric: pairs for metric, pairs in found.items() if pairs}

    def examples(self, model: str, metric: Metric) -> list[Example]:
        """Return the best, the median and the worst case of a model; of fewer than three cases those that there are.

        By an AUROC's metric cases are ranked by how far the score is from the truth. Where some cases have pictures,
        one of these stands in the place of one without: of the same score if there is any, else the nearest in rank.
        """
        sample = self.samples.of(model, metric.key)
        if metric.statistic == "auroc":
            badness = np.abs(sample.truths - sample.values)
        else:
            badness = sample.values if metric.higher_is_better is False else -sample.values
        order = sorted(range(len(sample)), key=lambda i: (badness[i], sample.keys[i][1]))
        if not order:
            return []
        if len(order) == 1:
            return [Example("only case", *sample.keys[0], float(sample.values[0]), _truth(sample, 0))]
        wanted: dict[int, str] = {}
        for rank, place in zip(_PARTS, (0, (len(order) - 1) // 2, len(order) - 1), strict=True):
            wanted.setdefault(place, rank)
        pictured = [place for place, i in enumerate(order) if (model, *sample.keys[i]) in self.results.pictures]
        ranked, found = badness[order], []
        for place, rank in wanted.items():
            taken = min(pictured, key=lambda other: (ranked[other] != ranked[place], abs(other - place)), default=place)
            if taken in pictured:
                pictured.remove(taken)
            near = ranked[taken] != ranked[place]
            words = f"near the {rank} (place {taken + 1:,} of {len(order):,})" if near else rank
            i = order[taken]
            found.append(Example(words, *sample.keys[i], float(sample.values[i]), _truth(sample, i)))
        return found

    def ranking(self) -> Metric | None:
        """Return the first metric by which cases as a whole were scored and of which one end is the better."""
        return next((one for one in self.scored() if one.higher_is_better is not None and self.whole(one.key)), None)

    def counts(self) -> tuple[int, int]:
        """Return how many cases were scored by any model, and of how many subjects."""
        subjects = {score.case: score.subject or score.case for score in self.results.scores}
        return len(subjects), len(set(subjects.values()))


def _truth(sample: Sample, at: int) -> float | None:
    return float(sample.truths[at]) if sample.metric.statistic == "auroc" else None

"""From scores to figures with their uncertainty, and to comparisons of models."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TypeVar

import numpy as np

from common.metrics import Bootstrap
from tools.paired import LEAST_SUBJECTS, Difference, Resampled, differences
from tools.reproduce.report.samples import Sample

__all__ = ["Comparison", "Summary", "compare_models", "holm", "summarize", "summarize_all"]

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Summary:
    """The figure of a sample.

    Args:
        value: mean or AUROC of the cases; None where it is not defined (AUROC of one class).
        sd: standard deviation over the cases (n - 1); None of one case, and of what is no mean.
        cases: how many.
        subjects: of how many subjects.
        low: lower bound of the 95 % interval; None where it was not asked for, or there are too few subjects.
        high: upper bound.
    """

    value: float | None
    sd: float | None
    cases: int
    subjects: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Two models on the cases that both have.

    Args:
        metric: its key.
        first: key of a model.
        second: key of the other.
        cases: how many both have.
        subjects: of how many subjects.
        difference: second - first, of the figures on these cases; None where one is not defined.
        resampled: interval and p.
        corrected: p after Holm's correction over all pairs of the metric; None where there is no p.
    """

    metric: str
    first: str
    second: str
    cases: int
    subjects: int
    difference: float | None
    resampled: Difference
    corrected: float | None = None


def summarize(sample: Sample) -> Summary:
    """Return the figure of a sample of at least one case, without an interval."""
    value = float(sample.figure()(np.ones((1, len(sample))))[0])
    spread = sample.metric.statistic == "mean" and len(sample) > 1
    sd = float(sample.values.std(ddof=1)) if spread else None
    return Summary(None if np.isnan(value) else value, sd, len(sample), len(set(sample.subjects)))


def summarize_all(samples: Mapping[Name, Sample]) -> dict[Name, Summary]:
    """Return the figures of samples with their intervals, the cluster bootstrap's over subjects.

    Samples of the same cases share their resamples, which are the dear part of it.

    Args:
        samples: by any name, of at least one case each.
    """
    summaries = {name: summarize(sample) for name, sample in samples.items()}
    for names in _alike(samples):
        subjects = samples[names[0]].subjects
        if len(set(subjects)) < LEAST_SUBJECTS:
            continue
        figures = [samples[name].figure() for name in names]
        intervals = Bootstrap(len(subjects), subjects).intervals(_together(figures))
        for at, name in enumerate(names):
            found = intervals[str(at)]
            if not np.isnan(found.low) and summaries[name].value is not None:
                summaries[name] = replace(summaries[name], low=found.low, high=found.high)
    return summaries


def compare_models(metric: str, samples: Mapping[str, Sample]) -> list[Comparison]:
    """Compare all pairs of models by one metric, each on the cases that both have, with Holm's correction.

    Args:
        metric: its key.
        samples: of the models by their keys, in the table's order.

    Returns:
        One for each pair that has a case in common, those with the first model first.
    """
    found: list[Comparison] = []
    by_cases: dict[tuple, list[tuple[str, str]]] = defaultdict(list)
    for first, second in combinations(samples, 2):
        theirs = set(samples[second].keys)
        if common := tuple(key for key in samples[first].keys if key in theirs):
            by_cases[common].append((first, second))
    for cases, pairs in by_cases.items():
        names = dict.fromkeys(name for pair in pairs for name in pair)
        kept = {name: samples[name].where(set(cases).__contains__) for name in names}
        summaries = {name: summarize(sample) for name, sample in kept.items()}
        subjects = kept[pairs[0][0]].subjects
        resampled = differences({name: sample.figure() for name, sample in kept.items()}, pairs, subjects)
        for (first, second), uncertainty in zip(pairs, resampled, strict=True):
            one, other = summaries[first].value, summaries[second].value
            apart = None if one is None or other is None else other - one
            found.append(Comparison(metric, first, second, len(cases), len(set(subjects)), apart, uncertainty))
    order = {pair: at for at, pair in enumerate(combinations(samples, 2))}
    return _corrected(sorted(found, key=lambda one: order[one.first, one.second]))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for their number by Holm's step-down method, which holds whatever their dependence.

    Args:
        p_values: m of them. The smallest is multiplied by m, the next by m - 1, and so on.

    Returns:
        The corrected ones in the same order: at most 1, and none smaller than that of a smaller p.
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[at]))
        corrected[at] = highest
    return corrected


def _corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    tested = [at for at, one in enumerate(comparisons) if one.resampled.p is not None]
    corrected = dict(zip(tested, holm([comparisons[at].resampled.p for at in tested]), strict=True))
    return [replace(one, corrected=corrected.get(at)) for at, one in enumerate(comparisons)]


def _alike(samples: Mapping[Name, Sample]) -> list[list[Name]]:
    """Return the samples' names, those of the same cases together."""
    groups: dict[tuple, list[Name]] = defaultdict(list)
    for name, sample in samples.items():
        groups[sample.keys].append(name)
    return list(groups.values())


def _together(figures: Sequence[Resampled]) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    return lambda weights: {str(at): figure(weights) for at, figure in enumerate(figures)}

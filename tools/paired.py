"""Models on the same cases: how far apart their figures are, by resampling subjects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from common.metrics import Bootstrap, average_precision

__all__ = ["LEAST_SUBJECTS", "Difference", "Resampled", "average_precision_of", "differences", "maximum_of_mean",
           "mean_of"]  # fmt: skip

LEAST_SUBJECTS = 5  # resampling fewer says nothing

# Takes weights (B, N), how often each of N cases is in each of B resamples; gives the figure of each resample, (B,).
Resampled = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Difference:
    """How sure a difference is.

    Args:
        low: lower bound of its 95 % interval; None where there are too few subjects, or no resample has a value.
        high: upper bound.
        p: how likely a difference as seen would be if the models were the same.
    """

    low: float | None = None
    high: float | None = None
    p: float | None = None


def mean_of(values: np.ndarray) -> Resampled:
    """Return the mean of N cases, as a figure that can be resampled.

    Args:
        values: of the cases, (N,).
    """
    return lambda weights: weights @ values / weights.sum(axis=1)


def maximum_of_mean(curves: np.ndarray) -> Resampled:
    """Return the greatest value of the mean of N curves, as a figure that can be resampled.

    Each resample has its own mean curve and so, perhaps, its maximum at another threshold.

    Args:
        curves: of the cases, (N, T), at T thresholds.
    """
    return lambda weights: (weights @ curves / weights.sum(axis=1, keepdims=True)).max(axis=1)


def average_precision_of(histograms: np.ndarray) -> Resampled:
    """Return the average precision of the pixels of N cases together, as a figure that can be resampled.

    Args:
        histograms: of the cases, (N, 2 L), see :func:`common.metrics.average_precision`: first outside, then inside.
    """
    return lambda weights: average_precision((weights @ histograms).reshape(len(weights), 2, -1))


def differences(
    figures: Mapping[str, Resampled], pairs: Sequence[tuple[str, str]], subjects: Sequence[str]
) -> list[Difference]:
    """Compare models on the same resamples (:class:`common.metrics.Bootstrap`), without correction for their number.

    Args:
        figures: of each model, all on the same N cases in the same order.
        pairs: of models, to be compared as second - first.
        subjects: of the cases, N; cases of a subject are drawn together.

    Returns:
        One for each pair; without bounds and p where there are fewer than ``LEAST_SUBJECTS``.
    """
    if len(set(subjects)) < LEAST_SUBJECTS:
        return [Difference()] * len(pairs)

    def apart(weights: np.ndarray) -> dict[str, np.ndarray]:
        values = {name: figure(weights) for name, figure in figures.items()}
        return {str(at): values[second] - values[first] for at, (first, second) in enumerate(pairs)}

    def none(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {str(at): np.zeros(len(weights)) for at in range(len(pairs))}

    bootstrap = Bootstrap(len(subjects), subjects)
    intervals, p_values = bootstrap.intervals(apart), bootstrap.p_values(apart, none)
    return [
        Difference() if np.isnan(p_values[name]) else Difference(intervals[name].low, intervals[name].high, p)
        for name, p in p_values.items()
    ]

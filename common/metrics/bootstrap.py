"""Confidence intervals and comparisons by resampling the images or patients of a test set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Bootstrap", "Interval", "Statistic"]

# Takes weights (B, N), how often each of N images is in each of B resamples; gives (B,) for each name.
Statistic = Callable[[np.ndarray], dict[str, np.ndarray]]

_BLOCK = 2**21  # weights held at once


@dataclass(frozen=True)
class Interval:
    """A score with its confidence interval.

    Args:
        value: of the data themselves; NaN where it is not defined.
        low: lower bound; NaN where no resample has a value.
        high: upper bound.
        undefined: in how many resamples it was not defined (one class only, say); these are left out.
    """

    value: float
    low: float
    high: float
    undefined: int = 0


class Bootstrap:
    """Resamples of N images with replacement, the same ones each time they are asked for.

    The BESS paper resamples its test set for confidence intervals and for comparing models, and does not say how often
    nor in which way; here it is the percentile method. Images of one patient are alike, so that intervals over images
    are too narrow as soon as there are several of a patient: with ``groups``, whole patients are drawn (the cluster
    bootstrap), and a resample may have more or fewer than N images.

    ``scipy.stats.bootstrap`` has neither clusters nor one set of resamples for many scores of several models.

    Args:
        count: N.
        groups: the patient of each image; None to draw images.
        samples: how many resamples B.
        seed: of the draws.

    Raises:
        ValueError: there is nothing to draw, or the groups are not N.
    """

    def __init__(self, count: int, groups: Sequence[str] | None = None, samples: int = 2000, seed: int = 0) -> None:
        if count < 1 or samples < 1:
            raise ValueError(f"nothing to draw: {count} images, {samples} resamples")
        if groups is not None and len(groups) != count:
            raise ValueError(f"{count} images cannot have {len(groups)} groups")
        self.count, self.samples, self.seed = count, samples, seed
        names = range(count) if groups is None else groups
        # By first appearance, not by name, so that patients of one image each give the resamples of the images.
        number = {name: at for at, name in enumerate(dict.fromkeys(names))}
        self._group = np.array([number[name] for name in names])

    def weights(self) -> Iterator[np.ndarray]:
        """Yield how often each image is in each resample, in blocks (b, N) that add up to B rows."""
        rng = np.random.default_rng(self.seed)
        drawn = int(self._group.max()) + 1
        rows = max(1, _BLOCK // self.count)
        for start in range(0, self.samples, rows):
            block = min(rows, self.samples - start)
            chosen = rng.integers(drawn, size=(block, drawn)) + drawn * np.arange(block)[:, None]
            counts = np.bincount(chosen.ravel(), minlength=block * drawn).reshape(block, drawn)
            yield counts[:, self._group].astype(np.float64)

    def distribution(self, statistic: Statistic) -> dict[str, np.ndarray]:
        """Return the scores of all resamples, (B,) for each name, NaN where they are not defined."""
        blocks = [statistic(weights) for weights in self.weights()]
        return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}

    def intervals(self, statistic: Statistic, level: float = 0.95) -> dict[str, Interval]:
        """Return each score with its confidence interval.

        Args:
            statistic: what is scored.
            level: how much of the distribution lies within the bounds.
        """
        values = _values(statistic, self.count)
        found = {}
        for name, sampled in self.distribution(statistic).items():
            defined = sampled[~np.isnan(sampled)]
            bounds = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2]) if len(defined) else [np.nan, np.nan]
            found[name] = Interval(values[name], *map(float, bounds), undefined=len(sampled) - len(defined))
        return found

    def p_values(self, first: Statistic, second: Statistic) -> dict[str, float]:
        """Return how likely a difference as seen would be if two models were the same, two-sided.

        Both are scored on the same resamples; with d the difference of a score, p is twice the smaller of the shares of
        resamples with d <= 0 and with d >= 0, at most 1. One is added to counts and to B, since no number of resamples
        shows that p is 0.

        Args:
            first: one model, on the same images in the same order as the other.
            second: the other model.

        Returns:
            p for each score that both have; NaN where no resample has a difference.
        """
        one, other = (self.distribution(statistic) for statistic in (first, second))
        return {name: _p_value(one[name] - other[name]) for name in one if name in other}


def _values(statistic: Statistic, count: int) -> dict[str, float]:
    return {name: float(value[0]) for name, value in statistic(np.ones((1, count))).items()}


def _p_value(difference: np.ndarray) -> float:
    defined = difference[~np.isnan(difference)]
    if not len(defined):
        return float("nan")
    smaller = min((defined <= 0).sum(), (defined >= 0).sum())
    return float(min(1.0, 2 * (smaller + 1) / (len(defined) + 1)))

"""Which threshold lets enough of the positives pass."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

import numpy as np
from scipy.stats import binomtest

from common.metrics import Bootstrap, Interval
from tools.gate.trade_off import SHARES, Gate, TradeOff

__all__ = ["LEVEL", "Proposal", "Proposals", "Proposer", "short_threshold"]

LEVEL = 0.95  # of the confidence intervals


@dataclass(frozen=True)
class Proposal:
    """A threshold and what it does.

    Args:
        threshold: to be passed on.
        largest: the largest one that decides these frames in the same way.
        gate: what it does.
        intervals: confidence intervals of the measures.
    """

    threshold: float
    largest: float
    gate: Gate
    intervals: dict[str, Interval]


class Proposer:
    """Chooses thresholds, with confidence intervals.

    The intervals are percentiles of the bootstrap. Those of shares of frames are widened to Clopper and Pearson's exact
    ones where these are wider: where all of 20 frames pass, so do all in every resample, and the bootstrap would say
    that 100 % is certain, which 20 frames cannot show.

    Args:
        trade_off: what there is to choose from.
        bootstrap: draws the frames.
    """

    def __init__(self, trade_off: TradeOff, bootstrap: Bootstrap) -> None:
        self.trade_off, self.bootstrap = trade_off, bootstrap
        curve = trade_off.curve()
        self._sensitivity, self._specificity = curve["sensitivity"], curve["specificity"]

    def at(self, threshold: float) -> Proposal:
        """Return a threshold with what it does."""
        gate = self.trade_off.at(threshold)
        intervals = self.bootstrap.intervals(gate.statistic, LEVEL)
        for name in SHARES:
            intervals[name] = _widened(intervals[name], *gate.counts[name])
        largest = self.trade_off.thresholds[bisect_left(self.trade_off.thresholds, threshold)]
        return Proposal(threshold, float(largest), gate, intervals)

    def wanted(self, sensitivity: float) -> Proposal:
        """Return the largest threshold with at least this sensitivity on these frames.

        Args:
            sensitivity: above 0, at most 1.
        """
        return self._of_largest(np.flatnonzero(self._sensitivity >= sensitivity)[-1])

    def conservative(self, sensitivity: float) -> Proposal | None:
        """Return the largest threshold whose sensitivity has a lower confidence bound of at least this, if any."""
        # Only at a positive's probability does the sensitivity change; the lower bound falls with the threshold.
        steps = np.flatnonzero(np.diff(self._sensitivity, append=-1.0) < 0)[::-1]

        def reaches(at: int) -> bool:
            return self.at(float(self.trade_off.thresholds[at])).intervals["sensitivity"].low >= sensitivity

        found = bisect_left(steps, True, key=reaches)
        return self._of_largest(steps[found]) if found < len(steps) else None

    def without_further_alarms(self, proposal: Proposal) -> Proposal | None:
        """Return the lower threshold at which more positives pass and no further negative does, if there is one."""
        same = np.flatnonzero(self._specificity == proposal.gate.values["specificity"])
        best = np.flatnonzero(self._sensitivity == self._sensitivity[same[0]])[-1]
        better = self._sensitivity[best] > proposal.gate.values["sensitivity"]
        return self._of_largest(best) if better else None

    def _of_largest(self, at: int) -> Proposal:
        below = float(self.trade_off.thresholds[at - 1]) if at else -math.inf
        return self.at(short_threshold(float(self.trade_off.thresholds[at]), below))


@dataclass(frozen=True)
class Proposals:
    """The thresholds that are proposed, and two to compare them with.

    Args:
        sensitivity: the wanted one.
        always_open: all frames pass.
        half: the usual threshold, 0.5.
        proposal: has the wanted sensitivity on these frames.
        conservative: can be expected to have it on others; None where there is none.
        no_further_alarms: below the proposal, closed for the same negatives and for fewer positives; None where there
            is none.
    """

    sensitivity: float
    always_open: Proposal
    half: Proposal
    proposal: Proposal
    conservative: Proposal | None
    no_further_alarms: Proposal | None

    @classmethod
    def of(cls, proposer: Proposer, sensitivity: float) -> Proposals:
        """Choose them."""
        proposal = proposer.wanted(sensitivity)
        return cls(
            sensitivity,
            always_open=proposer.at(0.0),
            half=proposer.at(0.5),
            proposal=proposal,
            conservative=proposer.conservative(sensitivity),
            no_further_alarms=proposer.without_further_alarms(proposal),
        )

    @property
    def named(self) -> dict[str, Proposal | None]:
        """Those that are shown side by side, by what they are called."""
        return {
            "always open": self.always_open, "0.5": self.half, "proposal": self.proposal,
            "conservative": self.conservative,
        }  # fmt: skip


def _widened(interval: Interval, count: int, of: int) -> Interval:
    """Return an interval that holds the exact one of a share as well."""
    exact = binomtest(count, of).proportion_ci(LEVEL, method="exact")
    low, high = np.fmin(interval.low, exact.low), np.fmax(interval.high, exact.high)
    return Interval(interval.value, float(low), float(high), interval.undefined)


def short_threshold(largest: float, below: float, digits: int = 3) -> float:
    """Round a threshold down to few digits, so that it decides nothing differently.

    Args:
        largest: the threshold, a probability.
        below: the highest probability that must not pass.
        digits: how many significant ones at least.

    Returns:
        A threshold above ``below`` and at most ``largest``, in the networks' float32 as well.
    """
    exact = Decimal(repr(float(largest)))
    for places in range(digits, 18):
        step = Decimal(1).scaleb(exact.adjusted() - places + 1)
        short = float(exact.quantize(step, ROUND_FLOOR))
        if short > below and np.float32(below) < np.float32(short) <= np.float32(largest):
            return short
    return largest

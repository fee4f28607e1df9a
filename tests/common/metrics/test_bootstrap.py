from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from common.metrics import bootstrap as bootstrap_module
from common.metrics.bootstrap import Bootstrap


def mean_of(values):
    """A statistic: the mean of the values, NaN ones left out."""
    values = np.asarray(values, float)
    defined = ~np.isnan(values)

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        with np.errstate(invalid="ignore"):
            return {"mean": weights @ np.where(defined, values, 0) / (weights @ defined)}

    return statistic


def all_weights(bootstrap: Bootstrap) -> np.ndarray:
    return np.concatenate(list(bootstrap.weights()))


class TestWeights:
    def test_images(self):
        weights = all_weights(Bootstrap(7, samples=3000))
        assert weights.shape == (3000, 7) and (weights.sum(axis=1) == 7).all()
        # With replacement an image is left out with probability (1 - 1/7)^7, and comes once on average.
        assert (weights == 0).mean() == pytest.approx((6 / 7) ** 7, abs=0.01)
        assert weights.mean(axis=0) == pytest.approx(np.ones(7), abs=0.06)

    def test_patients_stay_together(self):
        groups = ["b", "a", "b", "c", "a", "b"]
        weights = all_weights(Bootstrap(6, groups, samples=500))
        for name, count in Counter(groups).items():
            of_group = weights[:, [group == name for group in groups]]
            assert of_group.shape[1] == count and (of_group == of_group[:, :1]).all()
        assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
        assert set(weights.sum(axis=1)) >= {3.0, 6.0, 9.0}

    def test_patients_of_one_image_each_are_images(self):
        plain, named = (all_weights(Bootstrap(5, groups, samples=20)) for groups in (None, list("zyxwv")))
        assert (plain == named).all()

    def test_seed(self):
        one, same, other = (all_weights(Bootstrap(9, samples=50, seed=seed)) for seed in (3, 3, 4))
        assert (one == same).all() and (one != other).any()
        bootstrap = Bootstrap(9, samples=50, seed=3)
        assert (all_weights(bootstrap) == all_weights(bootstrap)).all()

    def test_blocks_add_up(self, monkeypatch):
        whole = all_weights(Bootstrap(10, samples=25, seed=1))
        monkeypatch.setattr(bootstrap_module, "_BLOCK", 70)
        blocks = list(Bootstrap(10, samples=25, seed=1).weights())
        assert [len(block) for block in blocks] == [7, 7, 7, 4] and (np.concatenate(blocks) == whole).all()

    @pytest.mark.parametrize("arguments", [(0,), (3, ["a"]), (3, None, 0)])
    def test_nothing_to_draw(self, arguments):
        with pytest.raises(ValueError):
            Bootstrap(*arguments)


class TestIntervals:
    def test_as_scipy_has_them(self):
        values = np.random.default_rng(0).gamma(2, size=60)
        interval = Bootstrap(60, samples=8000).intervals(mean_of(values))["mean"]
        theirs = stats.bootstrap((values,), np.mean, n_resamples=8000, method="percentile", rng=1).confidence_interval
        assert interval.value == pytest.approx(values.mean())
        assert (interval.low, interval.high) == pytest.approx(tuple(theirs), abs=0.02)

    def test_coverage(self):
        rng = np.random.default_rng(1)
        covered = 0
        for trial in range(300):
            interval = Bootstrap(40, samples=200, seed=trial).intervals(mean_of(rng.normal(5, 2, 40)), 0.9)["mean"]
            covered += interval.low <= 5 <= interval.high
        # 90 % are nominal; percentile intervals of 40 values are a little narrow. Three standard errors are 5 %.
        assert 0.83 <= covered / 300 <= 0.95

    def test_patients_widen_them(self):
        rng = np.random.default_rng(2)
        patients = np.repeat(np.arange(6), 50)
        values = rng.normal(size=6)[patients] + 0.1 * rng.normal(size=300)
        narrow, wide = (
            Bootstrap(300, groups, samples=500).intervals(mean_of(values))["mean"] for groups in (None, list(patients))
        )
        assert wide.high - wide.low > 3 * (narrow.high - narrow.low)

    def test_resamples_without_a_value(self):
        interval = Bootstrap(3, samples=1000).intervals(mean_of([2.0, math.nan, math.nan]))["mean"]
        assert (interval.value, interval.low, interval.high) == (2, 2, 2)
        assert interval.undefined / 1000 == pytest.approx((2 / 3) ** 3, abs=0.05)
        nothing = Bootstrap(2, samples=10).intervals(mean_of([math.nan, math.nan]))["mean"]
        assert all(map(math.isnan, (nothing.value, nothing.low, nothing.high))) and nothing.undefined == 10


class TestPValues:
    def test_same_model(self):
        statistic = mean_of(np.arange(9))
        assert Bootstrap(9, samples=50).p_values(statistic, statistic) == {"mean": 1.0}

    def test_pairing_counts(self):
        rng = np.random.default_rng(3)
        hard = rng.normal(0, 5, 50)  # how hard the images are, which both models feel
        one, other = mean_of(hard), mean_of(hard + rng.normal(0.2, 0.3, 50))
        p = Bootstrap(50, samples=999).p_values(one, other)["mean"]
        assert p < 0.01
        assert p == Bootstrap(50, samples=999).p_values(other, one)["mean"]

    def test_is_never_zero(self):
        p = Bootstrap(5, samples=99).p_values(mean_of([0.0] * 5), mean_of([1.0] * 5))
        assert p == {"mean": pytest.approx(2 / 100)}

    def test_level_under_the_null(self):
        rng = np.random.default_rng(4)
        rejected = sum(
            Bootstrap(50, samples=200, seed=trial).p_values(mean_of(rng.normal(size=50)), mean_of(np.zeros(50)))["mean"]
            < 0.1
            for trial in range(300)
        )
        assert 0.05 <= rejected / 300 <= 0.17

    def test_undefined(self):
        p = Bootstrap(2, samples=9).p_values(mean_of([math.nan] * 2), mean_of([1.0, 2.0]))
        assert math.isnan(p["mean"])

from __future__ import annotations

import numpy as np
import pytest

from common.metrics import Bootstrap
from tools.paired import Difference, average_precision_of, differences, maximum_of_mean, mean_of

FIRST = np.array([0.2, 0.4, 0.4, 0.6, 0.5, 0.3])
SECOND = FIRST + np.array([0.1, 0.2, -0.1, 0.1, 0.3, 0.0])
SUBJECTS = ("A", "B", "B", "C", "D", "E")


def test_a_mean_of_resamples():
    weights = np.array([[1, 1, 1, 1, 1, 1], [0, 2, 2, 0, 0, 0]])
    assert mean_of(FIRST)(weights) == pytest.approx([0.4, 0.4])
    assert mean_of(SECOND)(weights) == pytest.approx([0.5, 0.45])


def test_the_maximum_of_a_mean_curve_is_found_anew_in_each_resample():
    """At the threshold where one curve is high the other is low: the mean curve is flat, a resample's is not."""
    curves = np.array([[0.0, 0.8, 0.2], [0.0, 0.4, 0.8]])
    weights = np.array([[1, 1], [2, 0], [0, 2], [1, 3]])
    assert maximum_of_mean(curves)(weights) == pytest.approx([0.6, 0.8, 0.8, 0.65])


def test_an_average_precision_is_of_all_pixels_together():
    """Two cases of one pixel inside and one outside, in two steps: one ranks them right, the other wrong."""
    histograms = np.array([[1, 0, 0, 1], [0, 1, 1, 0]])
    weights = np.array([[1, 1], [1, 0], [0, 1], [0, 0]])
    assert average_precision_of(histograms)(weights) == pytest.approx([0.5, 1.0, 0.5, np.nan], nan_ok=True)


def test_the_same_as_the_bootstrap_of_the_differences():
    found, back = differences(
        {"a": mean_of(FIRST), "b": mean_of(SECOND)}, [("a", "b"), ("b", "a")], SUBJECTS
    )  # fmt: skip
    drawn = np.concatenate([mean_of(SECOND - FIRST)(weights) for weights in Bootstrap(6, SUBJECTS).weights()])
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))
    assert found.p == pytest.approx(2 * ((drawn <= 1e-12).sum() + 1) / 2001)
    assert (back.low, back.high, back.p) == pytest.approx((-found.high, -found.low, found.p))


def test_the_same_every_time():
    given = {"a": mean_of(FIRST), "b": mean_of(SECOND)}, [("a", "b")], SUBJECTS
    assert differences(*given) == differences(*given)


def test_equal_models_do_not_differ():
    (found,) = differences({"a": mean_of(FIRST), "b": mean_of(FIRST)}, [("a", "b")], SUBJECTS)
    assert found == Difference(0, 0, 1)


def test_fewer_than_five_subjects_tell_nothing():
    four = ("A", "B", "B", "C", "D", "D")
    assert differences({"a": mean_of(FIRST), "b": mean_of(SECOND)}, [("a", "b")], four) == [Difference()]


def test_what_no_resample_has_a_value_of():
    never = lambda weights: np.full(len(weights), np.nan)  # noqa: E731
    assert differences({"a": never, "b": mean_of(FIRST)}, [("a", "b")], SUBJECTS) == [Difference()]

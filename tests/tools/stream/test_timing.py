from __future__ import annotations

import pytest

from tools.stream import timing
from tools.stream.timing import StepTimes, times_table


def test_percentiles_in_milliseconds():
    times = StepTimes()
    for number in range(1, 102):
        times.add("network", number / 1000)
    assert times.summary()["network"] == pytest.approx({"p50": 51, "p95": 96, "p99": 100, "count": 101})
    assert times_table(times.summary()).splitlines()[1].split() == ["network", "51.00", "96.00", "100.00"]


def test_a_block_is_timed():
    times = StepTimes()
    with times.step("one"), times.step("two"):
        pass
    assert {name: row["count"] for name, row in times.summary().items()} == {"two": 1, "one": 1}
    assert 0 <= times.summary()["two"]["p50"] <= times.summary()["one"]["p50"]


def test_the_oldest_are_forgotten(monkeypatch):
    monkeypatch.setattr(timing, "_KEPT", 50)
    times = StepTimes()
    for number in range(1000):
        times.add("network", number)
    assert times.summary()["network"]["count"] <= 50 and times.summary()["network"]["p50"] > 900_000

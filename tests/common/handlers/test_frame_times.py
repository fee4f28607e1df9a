from __future__ import annotations

import time

import pytest
import torch

from common.handlers.frame_times import FrameTimes
from common.inferers.gated import GatedInferer, GatedRun

STEPS = ("read", "network", "postprocess", "write")


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """Seconds that pass one after another at each look at the clock."""
    seconds = [0.0, 1.0, 3.0, 3.5, 4.5]
    monkeypatch.setattr(time, "perf_counter", lambda: seconds.pop(0))
    return seconds


def times(ran: list[bool], stages: GatedInferer | None = None) -> list[dict[str, float]]:
    frame_times = FrameTimes(torch.device("cpu"), stages)
    for step in STEPS:
        frame_times.begin(step)
    return [dict(zip(frame_times.columns, row, strict=True)) for row in frame_times.per_frame(ran)]


def two_stages(ms_classifier: float, ms_segmenter: float) -> GatedInferer:
    inferer = GatedInferer()
    none = torch.zeros(0)
    inferer.last = GatedRun(none, none, none, ms_classifier, ms_segmenter)
    return inferer


def test_steps_are_shared_by_the_frames(clock):
    frame = {"ms_read": 250, "ms_network": 500, "ms_postprocess": 125, "ms_write": 250}
    assert times([True] * 4) == [frame] * 4


def test_the_segmenter_is_shared_by_the_frames_on_which_it_was_called(clock):
    rows = times([True, False, True, False], two_stages(400, 1200))
    assert list(rows[0]) == ["ms_read", "ms_network", "ms_classifier", "ms_segmenter", "ms_postprocess", "ms_write"]
    assert [row["ms_segmenter"] for row in rows] == [600, 0, 600, 0]
    assert [row["ms_network"] for row in rows] == [800, 200, 800, 200]  # together what the step took
    assert {row["ms_classifier"] for row in rows} == {100} and {row["ms_read"] for row in rows} == {250}


def test_a_segmenter_that_was_called_on_no_frame_that_counts(clock):
    rows = times([False, False], two_stages(400, 1200))
    assert [(row["ms_network"], row["ms_segmenter"]) for row in rows] == [(1000, 0)] * 2

from __future__ import annotations

import pytest

from tests.tools.stream.controlled import frame
from tools.stream.outlines import Outlines
from tools.stream.pipeline import SegmentedFrame
from tools.stream.worker import Done


def test_which_outline_a_picture_gets():
    outlines = Outlines(max_age=0.5)
    first = frame(0)
    done = Done(first, 0, SegmentedFrame(first.image[..., 0] > 0))
    mask = done.result.mask
    assert outlines.choose(first, 0, None) == (None, False)
    assert outlines.choose(first, 0, done) == (mask, True)
    assert outlines.choose(frame(3), 0, done) == (mask, False)
    assert outlines.choose(frame(15), 0, done) == (mask, False)  # half a second
    assert outlines.choose(frame(16), 0, done) == (None, False)
    assert outlines.choose(frame(1), 1, done) == (None, False)  # a new scene
    assert outlines.counts == {"own": 1, "earlier": 2, "too_old": 1, "none": 2}
    ages = outlines.ages.summary()["age"]
    assert ages["count"] == 4 and ages["p50"] == pytest.approx(300)  # of 0, 100, 500 and 533 ms

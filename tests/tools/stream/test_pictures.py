from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from common.data.video import open_source
from common.visualize import OUTLINE_COLOR
from tests.tools.stream.controlled import SHAPE, frame
from tools.stream.pictures import EARLIER_COLOR, Pictures


@pytest.fixture
def window() -> SimpleNamespace:
    window = SimpleNamespace(closed=False, shown=[])
    window.show = window.shown.append
    return window


def test_an_outline_of_an_earlier_frame_looks_otherwise(window):
    mask = np.zeros(SHAPE, bool)
    mask[8:16, 8:24] = True
    with Pictures(None, window, 30.0) as pictures:
        pictures.show(frame(0, value=90), mask)
        pictures.show(frame(1, value=90), mask, own=False)
        pictures.show(frame(2, value=90), None)
        assert not pictures.closed
        window.closed = True
        assert pictures.closed
    colours = [{tuple(int(part) for part in pixel) for pixel in shown.reshape(-1, 3)} for shown in window.shown]
    assert colours == [
        {(90, 90, 90), (0, 0, 0), OUTLINE_COLOR}, {(90, 90, 90), (0, 0, 0), EARLIER_COLOR}, {(90, 90, 90)},
    ]  # fmt: skip
    assert pictures.shown == 3 and set(pictures.times.summary()) == {"draw", "show"}


def test_a_finer_line_on_a_large_picture(window):
    mask = np.zeros((1080, 1920), bool)
    mask[200:800, 300:1500] = True
    large = SimpleNamespace(image=np.full((1080, 1920, 3), 90, np.uint8), time=0.0)
    pictures = Pictures(None, window, 30.0)
    for own in (True, False):
        pictures.show(large, mask, own)
    broad, fine = (int((shown != 90).any(axis=-1).sum()) for shown in window.shown)
    assert 0 < fine < broad


def test_a_video_begins_with_the_first_picture(tmp_path):
    with Pictures(tmp_path / "none.mp4", None, 30.0):
        pass
    assert not list(tmp_path.iterdir())
    with Pictures(tmp_path / "o.mp4", None, 30.0) as pictures:
        for index in range(3):
            pictures.show(frame(index), np.ones(SHAPE, bool))
    with open_source(tmp_path / "o.mp4") as source:
        assert [one.time for one in source] == pytest.approx([0, 1 / 30, 2 / 30], abs=1e-3)

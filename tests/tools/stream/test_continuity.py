from __future__ import annotations

import numpy as np
import pytest

from common.data.video import Frame
from tools.stream.continuity import Continuity

RNG = np.random.default_rng(0)
SCENE = np.kron(RNG.integers(0, 255, (6, 8, 3)), np.ones((16, 16, 1))).astype(np.uint8)
OTHER = 255 - SCENE


def frame(index: int, time: float | None = None, image: np.ndarray = SCENE) -> Frame:
    return Frame(image, index, index / 30 if time is None else time, str(index))


def breaks(*frames: Frame, **options) -> list[str | None]:
    continuity = Continuity(**{"frame_rate": 30} | options)
    return [continuity.breaks(one) for one in frames]


def test_running_frames():
    moved = [np.roll(SCENE, shift, axis=1) for shift in range(6)]
    noisy = [np.clip(image + RNG.normal(0, 12, image.shape), 0, 255).astype(np.uint8) for image in moved]
    assert breaks(*(frame(index, image=image) for index, image in enumerate(noisy))) == [None] * 6


def test_a_cut():
    assert breaks(frame(0), frame(1, image=OTHER), frame(2, image=OTHER)) == [None, "cut", None]
    assert breaks(frame(0), frame(1, image=OTHER), cut=1.0) == [None, None]


def test_a_gap():
    assert breaks(frame(0), frame(1, time=0.4), frame(2, time=2.0)) == [None, None, "gap"]
    assert breaks(frame(0), frame(1, time=0.4), gap=0.2) == [None, "gap"]


def test_dropped_frames_are_no_gap():
    """Of 30 frames a second one in 60 was taken: their times and their numbers agree."""
    assert breaks(frame(0), frame(60), frame(120), frame(121)) == [None] * 4


def test_a_jump_back():
    assert breaks(frame(10), frame(11, time=0.1)) == [None, "jump back"]
    assert breaks(frame(10), frame(3)) == [None, "jump back"]


def test_another_size():
    assert breaks(frame(0), frame(1, image=SCENE[:64])) == [None, "new size"]


@pytest.mark.parametrize("rate", [None, 30])
def test_without_a_frame_rate_the_steps_tell(rate):
    assert breaks(*(frame(index) for index in range(4)), frame(5, time=3.0), frame_rate=rate)[-1] == "gap"


def test_without_a_frame_rate_the_shortest_step_counts():
    """The first step may be a long one, or none at all."""
    stamps = [0, 3, 3 + 1 / 30, 3 + 2 / 30, 5]
    assert breaks(*(frame(index, time) for index, time in enumerate(stamps)), frame_rate=None)[-1] == "gap"
    stamps = [0, 0, 1, 2, 3]
    assert breaks(*(frame(index, time) for index, time in enumerate(stamps)), frame_rate=None) == [None] * 5


def test_scenes_are_numbered_and_breaks_counted():
    continuity = Continuity(frame_rate=30)
    scenes = []
    for one in (frame(0), frame(1, image=OTHER), frame(2, image=OTHER), frame(3, time=9.0), frame(4, image=OTHER)):
        continuity.breaks(one)
        scenes.append(continuity.scene)
    assert scenes == [0, 1, 1, 2, 3] and continuity.counts == {"cut": 1, "gap": 1, "jump back": 1}

"""A source and a segmenter that do one step when a test says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np

from common.data.video import Frame
from common.data.video.live import LiveSource
from tools.stream.pipeline import SegmentedFrame

SHAPE = (24, 32)
WAIT = 20  # seconds after which a test that waits for an event has failed


def picture(value: int = 0) -> np.ndarray:
    return np.full((*SHAPE, 3), value, np.uint8)


def frame(index: int, rate: float = 30.0, value: int = 0) -> Frame:
    return Frame(picture(value), index, index / rate, f"{index:06d}")


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.001)


class Steps:
    """A source of 30 frames a second, which gives a frame when it is told to; it may state another rate."""

    def __init__(self, values: dict[int, int] | None = None, rate: float = 30.0) -> None:
        self.values = values or {}
        self.error: Exception | None = None
        self._ended = False
        self._allowed = threading.Semaphore(0)
        self.live = LiveSource(self._pictures(), "camera", frame_rate=rate)

    def _pictures(self) -> Iterator[tuple[float, np.ndarray]]:
        for index in range(10**6):
            self._allowed.acquire()
            if self.error is not None:
                raise self.error
            if self._ended:
                return
            yield index / 30, picture(self.values.get(index, 0))

    def give(self) -> None:
        """Give a frame and wait until it has come."""
        goal = self.live.received + 1
        self._allowed.release()
        until(lambda: self.live.received == goal)

    def end(self, error: Exception | None = None) -> None:
        self.error, self._ended = error, True
        self._allowed.release()


class Held:
    """A segmenter that takes a frame and is done with it when it is told to; the mask is where the picture is > 0."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.scenes: list[int] = []
        self.error: Exception | None = None
        self._allowed = threading.Semaphore(0)

    def __call__(self, frame: Frame, scene: int) -> SegmentedFrame:
        self.taken.append(frame.index)
        self.scenes.append(scene)
        assert self._allowed.acquire(timeout=WAIT)
        if self.error is not None:
            raise self.error
        return SegmentedFrame(frame.image[..., 0] > 0)

    def release(self, count: int = 1) -> None:
        self._allowed.release(count)

    def has(self, *indices: int) -> None:
        """Wait until these frames have been taken, in this order, and no others before."""
        until(lambda: len(self.taken) >= len(indices))
        assert tuple(self.taken) == indices

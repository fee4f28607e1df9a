from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from common.data.video import Frame
from common.data.video.live import LiveSource
from common.errors import InputError
from tests.tools.stream.controlled import Held, Steps, frame, picture, until
from tools.stream.continuity import Continuity
from tools.stream.ctrl_c import CtrlC
from tools.stream.loops import follow_live, go_through
from tools.stream.outlines import Outlines
from tools.stream.pictures import Pictures
from tools.stream.pipeline import SegmentedFrame
from tools.stream.segmentation import Segmentation
from tools.stream.worker import NewestFrameWorker


class Shown(Pictures):
    """Pictures that nobody sees; for each, its number, what was outlined, and whether that is its own."""

    def __init__(self) -> None:
        super().__init__(None, None, None)
        self.seen: list[tuple[int, bool, bool]] = []
        self.closing = False

    def show(self, frame: Frame, mask: np.ndarray | None, own: bool = True) -> None:
        super().show(frame, mask, own)
        self.seen.append((frame.index, mask is not None, own))

    @property
    def closed(self) -> bool:
        return self.closing


class Run:
    """A live run in a thread, with a source and a segmenter that wait for the test."""

    def __init__(
        self, values: dict[int, int] | None = None, max_age: float = 0.5, most: int | None = None, rate: float = 30.0
    ) -> None:
        self.source, self.held, self.shown = Steps(values, rate), Held(), Shown()
        self.outlines, self.error = Outlines(max_age), None
        self.continuity, self.ctrl_c = Continuity(frame_rate=30.0), CtrlC()
        self._most, self.left = most, threading.Event()
        self._thread = threading.Thread(target=self._follow)

    def _follow(self) -> None:
        try:
            with self.source.live as live, NewestFrameWorker(self.held, self._most) as self.worker:
                try:
                    follow_live(live, self.worker, self.continuity, self.outlines, self.shown, self.ctrl_c)
                finally:
                    self.left.set()
                    self.source.end()  # its thread would wait for the next frame
        except Exception as error:
            self.error = error

    def give(self, count: int = 1) -> None:
        """Give frames, each when the one before has been shown."""
        for _ in range(count):
            self.source.give()
            until(lambda: len(self.shown.seen) == self.source.live.received)

    def join(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()

    def __enter__(self) -> Run:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.source.end()
        self.held.release(1000)
        self.join()


def test_pictures_go_on_while_a_frame_is_segmented():
    with Run() as run:
        run.give(8)
        run.held.has(0)
        assert run.shown.seen == [(index, False, False) for index in range(8)]
        run.held.release()
        run.held.has(0, 7)  # the newest, not the one that came first
        run.give(3)
        assert run.shown.seen[8:] == [(index, True, False) for index in (8, 9, 10)]
        run.held.release()
        run.held.has(0, 7, 10)
        run.source.end()
        run.held.release()
        run.join()
    live = run.source.live
    assert run.error is None and (live.received, live.dropped, run.shown.shown) == (11, 0, 11)
    assert live.received == run.worker.segmented + run.worker.dropped == 3 + 8
    assert run.worker.newest.frame.index == 10  # the last frame is segmented before it ends
    assert run.outlines.counts == {"own": 0, "earlier": 3, "too_old": 0, "none": 8}


def test_a_fast_segmenter_outlines_the_picture_itself():
    with Run(rate=0.1) as run:  # seconds to wait for it, that a busy machine is no matter
        run.held.release(1000)
        run.give(20)
        run.source.end()
        run.join()
    assert run.held.taken == list(range(20)) and run.worker.dropped == 0
    assert run.shown.seen == [(index, True, True) for index in range(20)]
    assert run.outlines.counts == {"own": 20, "earlier": 0, "too_old": 0, "none": 0}


def test_an_outline_that_is_too_old_is_not_drawn():
    with Run(max_age=0.1) as run:
        run.give()
        run.held.release()
        until(lambda: run.worker.newest is not None)
        run.give(5)
    assert [drawn for _, drawn, _ in run.shown.seen[1:]] == [True, True, True, False, False]


def test_a_cut_takes_the_outline_away_and_begins_anew():
    """The frame after the cut comes while that before is being segmented: its outline is of another scene."""
    with Run(values=dict.fromkeys(range(3, 100), 255)) as run:
        run.give()
        run.held.release()
        until(lambda: run.worker.newest is not None)
        run.give(4)  # frame 1 is taken; the cut is at 3
        run.held.has(0, 1)
        run.held.release()
        run.held.has(0, 1, 4)
        run.give()
        run.held.release()
        until(lambda: run.worker.segmented == 3)
        run.give()
    assert [drawn for _, drawn, _ in run.shown.seen] == [False, True, True, False, False, False, True]
    assert run.held.scenes[:3] == [0, 0, 1] and run.continuity.counts == {"cut": 1}


@pytest.mark.parametrize("error", [InputError("frame 000000", "could not be segmented", "look"), RuntimeError("no")])
def test_an_error_of_the_segmenter_ends_the_run(error):
    """With no further frame: a silent camera does not keep it."""
    with Run() as run:
        run.give()
        run.held.error = error
        run.held.release()
        run.join()
    assert run.error is error and run.held.taken == [0]


def test_an_error_of_the_source_ends_the_run():
    error = InputError("camera", "broke off", "check it")
    with Run() as run:
        run.give(2)
        run.held.has(0)
        run.source.end(error)
        assert run.left.wait(20)  # while the frame is still being segmented
        run.held.release(2)
        run.join()
    assert run.error is error and run.worker.segmented == len(run.held.taken)


@pytest.mark.parametrize("way", ["closing the window", "Ctrl-C"])
def test_the_user_ends_the_run(way):
    with Run() as run:
        run.give(2)
        if way == "Ctrl-C":
            run.ctrl_c.pressed = True
        else:
            run.shown.closing = True
        assert run.left.wait(20)  # while the frame is still being segmented
        run.held.release(2)
        run.join()
    assert run.error is None and run.worker.segmented == len(run.held.taken)


def test_ctrl_c_ends_a_run_over_every_frame():
    """Once the frame is done: it is counted, and shown with its own outline."""
    ctrl_c, shown = CtrlC(), Shown()

    def pipeline(image: Frame) -> SegmentedFrame:
        ctrl_c.pressed = image.index == 2
        return SegmentedFrame(image.image[..., 0] == 0)

    segmentation = Segmentation(pipeline)
    go_through(map(frame, range(9)), segmentation, Continuity(), shown, ctrl_c, None)
    assert segmentation.segmented == shown.shown == 3 and shown.seen[-1] == (2, True, True)


def test_it_ends_after_so_many_frames():
    with Run(most=1) as run:
        run.give(3)
        run.held.release()
        run.join()
    assert run.error is None and run.held.taken == [0] and run.worker.segmented == 1


def test_a_slow_segmenter_of_30_frames_a_second():
    """In real time: a second of a camera, and a network that needs a quarter of one."""
    begun: list[int] = []

    def camera() -> Iterator[tuple[float, np.ndarray]]:
        for index in range(30):
            time.sleep(1 / 30)
            yield index / 30, picture()

    def slow(frame: Frame, _: int) -> SegmentedFrame:
        begun.append(frame.index)
        time.sleep(0.25)
        return SegmentedFrame(frame.image[..., 0] == 0)

    shown, outlines = Shown(), Outlines(10.0)
    with LiveSource(camera(), "camera", 30.0) as live, NewestFrameWorker(slow) as worker:
        follow_live(live, worker, Continuity(frame_rate=30.0), outlines, shown, CtrlC())
    assert begun == sorted(set(begun)) and begun[-1] == 29
    assert live.received == 30 == worker.segmented + worker.dropped + live.dropped
    assert shown.shown == 30 - live.dropped > 2 * worker.segmented
    assert sum(outlines.counts.values()) == shown.shown and outlines.counts["earlier"] > 0


def test_a_window_is_kept_alive_while_no_frame_comes():
    refreshed = threading.Event()
    window = SimpleNamespace(closed=False, refresh=refreshed.set, show=lambda _: None)
    source = Steps()
    pictures = Pictures(None, window, None)
    threading.Thread(target=lambda: (refreshed.wait(20), setattr(window, "closed", True))).start()
    with source.live as live, NewestFrameWorker(Held()) as worker:
        follow_live(live, worker, Continuity(), Outlines(1.0), pictures, CtrlC())
        source.end()
    assert refreshed.is_set() and pictures.closed

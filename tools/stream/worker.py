"""Segmentation in a thread of its own, of the newest frame only."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition, Thread
from types import TracebackType

from common.data.video import Frame
from tools.stream.pipeline import SegmentedFrame

__all__ = ["Done", "NewestFrameWorker"]


@dataclass(frozen=True)
class Done:
    """A frame, the scene that it belongs to, and what was found in it."""

    frame: Frame
    scene: int
    result: SegmentedFrame


class NewestFrameWorker:
    """Segment frames as they are offered; of those that come meanwhile only the newest is kept.

    One frame waits at most. A newer one takes its place, so the next frame that is segmented is always the newest that
    was offered. Nobody who offers frames or looks at results waits for the segmentation.

    Used in a ``with`` block, whose end waits for the frame that is being segmented and leaves the one that waits.

    Args:
        segment: called in the thread with a frame and the number of its scene.
        most: end after so many frames; None: not before :meth:`finish`.

    Attributes:
        segmented: how many frames are done.
        dropped: how many gave way to a newer one.
    """

    def __init__(self, segment: Callable[[Frame, int], SegmentedFrame], most: int | None = None) -> None:
        self.segmented = 0
        self.dropped = 0
        self._segment, self._most = segment, most
        self._waiting: tuple[Frame, int] | None = None
        self._current: Frame | None = None
        self._newest: Done | None = None
        self._error: BaseException | None = None
        self._last_offered = self._stopped = self._ended = False
        self._changed = Condition()
        # Not a daemon: a thread that is torn out of a computation when the program ends can bring it down.
        self._thread = Thread(target=self._run, name="segmentation")
        self._thread.start()

    @property
    def newest(self) -> Done | None:
        """The frame that was done last; None before the first."""
        with self._changed:
            return self._newest

    @property
    def ended(self) -> bool:
        """Whether no further frame will be segmented: ``most`` are done, or there was an error."""
        with self._changed:
            return self._ended

    def offer(self, frame: Frame, scene: int) -> None:
        """Let a frame be segmented next; one that still waited is dropped."""
        with self._changed:
            self.dropped += self._waiting is not None
            self._waiting = (frame, scene)
            self._changed.notify_all()

    def wait_for(self, frame: Frame, seconds: float) -> None:
        """Wait until the frame that was offered last is done, but not while it waits for another one to be done.

        Args:
            frame: the one.
            seconds: the longest wait.
        """
        end = time.monotonic() + seconds
        with self._changed:
            while not self._ended and (self._current is frame or (self._current is None and self._waits(frame))):
                if not self._changed.wait(max(0.0, end - time.monotonic())):
                    return

    def finish(self) -> None:
        """Say that no further frame comes, and wait until the one that waits has been segmented.

        Raises:
            BaseException: what ``segment`` raised.
        """
        with self._changed:
            self._last_offered = True
            self._changed.notify_all()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def __enter__(self) -> NewestFrameWorker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()

    def _waits(self, frame: Frame) -> bool:
        return self._waiting is not None and self._waiting[0] is frame

    def _run(self) -> None:
        try:
            while (task := self._take()) is not None:
                done = Done(*task, self._segment(*task))
                with self._changed:
                    self._newest, self._current = done, None
                    self.segmented += 1
                    self._changed.notify_all()
        except BaseException as error:  # whatever it is, it belongs to who offers the frames
            self._error = error
        finally:
            with self._changed:
                self._ended, self._current = True, None
                self._changed.notify_all()

    def _take(self) -> tuple[Frame, int] | None:
        with self._changed:
            if self.segmented == self._most:
                return None
            self._changed.wait_for(lambda: self._waiting is not None or self._last_offered or self._stopped)
            if self._stopped or self._waiting is None:
                return None
            task, self._waiting = self._waiting, None
            self._current = task[0]
            return task

"""The newest frame of what is happening now."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from threading import Condition, Event, Thread
from time import monotonic
from types import TracebackType

import numpy as np

from common.data.video.camera import is_camera, open_camera, shown_address
from common.data.video.frames import Frame, size_text
from common.data.video.source import open_source
from common.data.video.video_file import frame_name
from common.errors import InputError

__all__ = ["LiveSource", "open_live"]

PATIENCE = 10.0  # seconds


class LiveSource:
    """A running source of which only the newest frame is kept.

    A thread reads it. A frame that was not taken before the next one came is dropped and counted, so that who takes
    frames more slowly than they come sees the present, not the past. The thread ends with the source or on
    :meth:`close`, which the ``with`` block calls.

    Args:
        pictures: (time in seconds, (H, W, 3) uint8 RGB) of each frame, in an array of its own; reading the next one may
            block.
        name: what errors call the source.
        frame_rate: frames per second, where known.
        patience: after so many seconds without a frame the source counts as lost; None: never.
        paced: give the frames out at the pace of their times, as a player does, instead of as they come.

    Attributes:
        received: how many frames have come.
        dropped: how many of them were replaced by a newer one before they were taken.
        ended: True when no further frame will come and the last one has been taken.
    """

    def __init__(
        self,
        pictures: Iterable[tuple[float, np.ndarray]],
        name: str,
        frame_rate: float | None = None,
        patience: float | None = PATIENCE,
        paced: bool = False,
    ) -> None:
        self.name = name
        self.frame_rate = frame_rate
        self.received = 0
        self.dropped = 0
        self._patience = patience
        self._paced = paced
        self._newest: Frame | None = None
        self._error: BaseException | None = None
        self._finished = False
        self._stop = Event()
        self._changed = Condition()
        self._sign_of_life = monotonic()
        self._thread = Thread(target=self._read, args=(pictures,), name="live frames", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        with self._changed:
            return self._finished and self._newest is None

    def latest(self, timeout: float | None = None) -> Frame | None:
        """Take the newest frame; each frame is given once, the last one of a source always.

        Its index counts all frames that came, and its time is the source's own: what was dropped, a gap and a jump back
        show in them.

        Args:
            timeout: seconds to wait for a frame that has not been taken; None waits until one comes.

        Returns:
            The frame; None when none came in time, or when the source has ended (``ended`` tells).

        Raises:
            InputError: the source was lost: it broke off with an error, or gave no frame for ``patience`` seconds.
        """
        deadline = None if timeout is None else monotonic() + timeout
        with self._changed:
            while self._newest is None and not self._finished:
                now = monotonic()
                lost = None if self._patience is None else self._sign_of_life + self._patience
                if lost is not None and now >= lost:
                    problem = f"gave no frame for {self._patience:g} s"
                    raise InputError(self.name, problem, "check the camera and its connection")
                if deadline is not None and now >= deadline:
                    return None
                ends = [at for at in (deadline, lost) if at is not None]
                self._changed.wait(min(ends) - now if ends else None)
            frame, self._newest = self._newest, None
            if frame is None and self._error is not None:
                raise self._error
            return frame

    def close(self) -> None:
        """End the reading; frames that were not taken are gone.

        A thread that is stuck in a camera's driver cannot be ended; it is left to itself after a second.
        """
        self._stop.set()
        self._thread.join(timeout=1)
        with self._changed:
            self._newest, self._error, self._finished = None, None, True
            self._changed.notify_all()

    def __enter__(self) -> LiveSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, pictures: Iterable[tuple[float, np.ndarray]]) -> None:
        error: BaseException | None = None
        try:
            first: tuple[float, np.ndarray] | None = None
            anchor = last = 0.0  # what the clock shows at time 0 of the source; time of the last frame
            for stamp, image in pictures:
                first = first or (stamp, image)
                moment = stamp - first[0]
                if image.shape != first[1].shape:
                    sizes = f"{size_text(image.shape)} after {size_text(first[1].shape)}"
                    raise InputError(
                        self.name, f"changes its size at frame {self.received}: {sizes} (width x height)", "start again"
                    )
                if self._paced:
                    if moment <= last:  # the beginning, or a jump back: time starts to run here
                        anchor = monotonic() - moment
                    self._stop.wait(max(0.0, anchor + moment - monotonic()))
                    last = moment
                if self._stop.is_set():
                    break
                self._put(Frame(image, self.received, moment, frame_name(self.received)))
            if first is None:
                raise InputError(self.name, "ended without a frame", "check what it sends")
        except BaseException as raised:  # whatever it is, it belongs to who takes the frames
            error = raised
        finally:
            close = getattr(pictures, "close", None)
            if close is not None:
                close()
            with self._changed:
                self._error, self._finished = error, True
                self._changed.notify_all()

    def _put(self, frame: Frame) -> None:
        with self._changed:
            self.dropped += self._newest is not None
            self.received += 1
            self._newest = frame
            self._sign_of_life = monotonic()
            self._changed.notify_all()


def open_live(
    source: str | os.PathLike, realtime: bool = True, frame_rate: float | None = None, patience: float | None = PATIENCE
) -> LiveSource:
    """Open something that gives frames while it runs.

    Args:
        source: a camera by its number (``0``; a folder of that name is ``./0``) or device (``/dev/video0``; on Windows
            ``video=NAME``), the address of a stream (``rtsp://``, ``http://``, ``udp://`` ...), or a video file or a
            folder of frames, which is played.
        realtime: play a file at its own rate; False: as fast as it is decoded.
        frame_rate: frames per second of a folder of frames, and what a camera is asked for.
        patience: seconds without a frame after which a camera or a stream counts as lost.

    Raises:
        InputError: it cannot be opened.
    """
    source = str(source)
    if is_camera(source):
        pictures, rate = open_camera(source, frame_rate, patience)
        return LiveSource(pictures, shown_address(source), rate, patience)
    video = open_source(Path(source), frame_rate)
    pictures = ((frame.time, frame.image) for frame in video)
    return LiveSource(pictures, source, video.frame_rate, patience=None, paced=realtime)

"""Frames, and what they come from."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from weakref import WeakSet

import numpy as np

from common.data.video.background import Background
from common.errors import InputError

__all__ = ["Frame", "FrameSource", "natural_key", "size_text", "source_name"]


@dataclass(frozen=True)
class Frame:
    """One picture of a video.

    Args:
        image: (H, W, 3) uint8 RGB, upright.
        index: its number, from 0.
        time: seconds since the first frame, by the source's own time stamps.
        name: the stem of the files that are made of it.
    """

    image: np.ndarray
    index: int
    time: float
    name: str


class FrameSource(ABC):
    """A recorded sequence of frames; iterating gives each :class:`Frame` in turn, every time from the first on.

    Frames are decoded in a thread of their own, a few ahead of the reader, so memory does not grow with the length.
    Leaving the ``with`` block, or :meth:`close`, ends the threads of iterations that did not come to their end.

    Args:
        path: the file or folder.
        size: (H, W) of every frame.
        frame_rate: frames per second on average; None where nothing states it.
        frame_count: the number of frames as the source states it before it is decoded; None where it does not.
        is_video: True for a video file, False for a folder of frames.

    Attributes:
        name: the stem of outputs, see :func:`source_name`.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        size: tuple[int, int],
        frame_rate: float | None,
        frame_count: int | None,
        is_video: bool,
    ) -> None:
        self.path = Path(path)
        self.name = source_name(path)
        self.size = size
        self.frame_rate = frame_rate
        self.frame_count = frame_count
        self.is_video = is_video
        self._running: WeakSet[Background[Frame]] = WeakSet()

    @abstractmethod
    def _frames(self) -> Iterator[Frame]:
        """Yield the frames from the first to the last."""

    def __iter__(self) -> Iterator[Frame]:
        run = Background(self._checked())
        self._running.add(run)
        return run

    def _checked(self) -> Iterator[Frame]:
        with closing(self._frames()) as frames:
            for frame in frames:
                if frame.image.shape[:2] != self.size:
                    raise InputError(
                        self.path,
                        f"changes its size at frame {frame.name}: {size_text(frame.image.shape)} after "
                        f"{size_text(self.size)} (width x height)",
                        "cut it where the size changes and pass the parts on their own",
                    )
                yield frame

    def close(self) -> None:
        """End all iterations over this source; a new one can be started."""
        for run in list(self._running):
            run.close()

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def source_name(path: str | os.PathLike, root: str | os.PathLike | None = None) -> str:
    """Return the stem of a source's outputs.

    Args:
        path: a video file or a folder of frames.
        root: the folder that sources were looked for in; the folders between are put in front of the name, as folders
            of frames are often all called ``frames``.

    Returns:
        A video's name without its suffix, or a folder's name.
    """
    place = Path(path).resolve()
    name = place.name if place.is_dir() else place.stem
    between: tuple[str, ...] = ()
    if root is not None and place.is_relative_to(Path(root).resolve()):
        between = place.relative_to(Path(root).resolve()).parts[:-1]
    return "_".join((*between, name or "video"))


def natural_key(path: Path) -> tuple[Any, ...]:
    """Return a sort key that puts ``frame2`` before ``frame10``, the same on every system."""
    # Text and numbers alternate, beginning with text, so that like is compared with like.
    parts = (re.split(r"([0-9]+)", name.lower()) for name in path.parts)
    return tuple([int(part) if at % 2 else part for at, part in enumerate(name)] for name in parts), str(path)


def size_text(shape: tuple[int, ...]) -> str:
    """Return the size of an (H, W, ...) array as people write it: ``W x H``."""
    return f"{shape[1]} x {shape[0]}"

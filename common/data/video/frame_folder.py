"""Folders of frames."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.data.video.frame_image import FRAME_SUFFIXES, read_image
from common.data.video.frames import Frame, FrameSource, natural_key
from common.errors import InputError

__all__ = ["FRAME_RATE", "FrameFolder", "frame_files"]

FRAME_RATE = 30.0  # frames per second, where nothing else is known


def frame_files(folder: str | os.PathLike) -> list[Path]:
    """Return the frames in a folder, ``frame2`` before ``frame10``; hidden files and other suffixes are left out.

    Raises:
        InputError: the folder cannot be read, or two frames differ only in their suffix.
    """
    try:
        paths = [path for path in Path(folder).iterdir() if path.suffix.lower() in FRAME_SUFFIXES]
        paths = [path for path in paths if not path.name.startswith(".") and path.is_file()]
    except OSError as error:
        raise InputError(folder, f"cannot be read ({error.strerror or error})", "pass a folder of frames") from error
    paths.sort(key=lambda path: (natural_key(Path(path.stem)), path.name))
    stems: dict[str, Path] = {}
    for path in paths:
        if path.stem in stems:
            raise InputError(path, f"has the same name as {stems[path.stem].name}", "remove or rename one of them")
        stems[path.stem] = path
    return paths


class FrameFolder(FrameSource):
    """A folder whose pictures are the frames of a video, in the order of the numbers in their names.

    Args:
        path: the folder; see :func:`common.data.video.frame_image.read_image` for what the pictures may be.
        frame_rate: frames per second, which gives the frames their times; ``FRAME_RATE`` where None.

    Raises:
        InputError: there is no frame in it, or the first cannot be read.
        ValueError: the frame rate is not positive.
    """

    def __init__(self, path: str | os.PathLike, frame_rate: float | None = None) -> None:
        if frame_rate is not None and not frame_rate > 0:
            raise ValueError("a frame rate is positive")
        self._files = frame_files(path)
        if not self._files:
            raise InputError(
                path, f"holds no frames ({' '.join(FRAME_SUFFIXES)})", "pass a video or a folder of frames"
            )
        height, width = read_image(self._files[0]).shape[:2]
        super().__init__(path, (height, width), frame_rate or FRAME_RATE, len(self._files), is_video=False)

    def _frames(self) -> Iterator[Frame]:
        for index in range(len(self._files)):
            yield self._frame(index)

    def _frame(self, index: int) -> Frame:
        file = self._files[index]
        return Frame(read_image(file), index, index / self.frame_rate, file.stem)

    def read(self, indices: Sequence[int]) -> list[Frame]:
        """Read frames by their numbers from 0, in any order.

        Raises:
            InputError: there is no such frame, or it cannot be read.
        """
        if indices and max(indices) >= len(self._files):
            problem = f"has no frame {max(indices)}: it has {len(self._files)}, from 0 on"
            raise InputError(self.path, problem, "correct the number")
        if indices and min(indices) < 0:
            raise ValueError("frame numbers start at 0")
        return [self._frame(index) for index in indices]

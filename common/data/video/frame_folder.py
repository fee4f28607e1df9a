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


def one_size(sizes: Iterable[tuple[int, int] | None]) -> tuple[int, int] | None:
    """Return the size that all pictures have whose size is known; None where they differ, or none is known."""
    known = {size for size in sizes if size is not None}
    return known.pop() if len(known) == 1 else None


class FrameFolder(FrameSource):
    """A folder whose pictures are the frames of a video, in the order of the numbers in their names.

    Args:
        path: the folder; see :func:`common.data.video.frame_image.read_image` for what the pictures may be.
        frame_rate: frames per second, which gives the frames their times; ``FRAME_RATE`` where None.
        still: frames are looked at one by one: the path may be a single picture, the pictures of a folder may differ
            in size, and one that cannot be read is left out when iterating.

    Attributes:
        size: (H, W) of every frame; None where they differ.
        unreadable: why pictures were left out, by their files, as far as the last iteration came.

    Raises:
        InputError: there is no frame in it, or the first cannot be read (unless ``still``).
        ValueError: the frame rate is not positive.
    """

    def __init__(self, path: str | os.PathLike, frame_rate: float | None = None, still: bool = False) -> None:
        if frame_rate is not None and not frame_rate > 0:
            raise ValueError("a frame rate is positive")
        self._files = [Path(path)] if still and Path(path).is_file() else frame_files(path)
        if not self._files:
            raise InputError(
                path, f"holds no frames ({' '.join(FRAME_SUFFIXES)})", "pass a video or a folder of frames"
            )
        self._sizes = [picture_size(file) for file in self._files] if still else None
        self.unreadable: dict[Path, InputError] = {}
        size = read_image(self._files[0]).shape[:2] if self._sizes is None else one_size(self._sizes)
        super().__init__(path, size, frame_rate or FRAME_RATE, len(self._files), is_video=False)

    def _checked(self) -> Iterator[Frame]:
        return super()._checked() if self._sizes is None else self._readable()

    def _readable(self) -> Iterator[Frame]:
        """Yield the frames that can be read."""
        self.unreadable.clear()
        for index, file in enumerate(self._files):
            try:
                frame = self._frame(index)
                if frame.image.shape[:2] != self._sizes[index]:
                    raise InputError(file, "is not of the size that its header says", "save it anew")
            except InputError as error:
                self.unreadable[file] = error
            else:
                yield frame

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

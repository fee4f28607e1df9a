"""Pictures that are looked at one by one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from common.data.video.frame_folder import FRAME_RATE, frame_files
from common.data.video.frame_image import FRAME_SUFFIXES, read_image
from common.data.video.frames import Frame, FrameSource
from common.data.video.picture_size import picture_size
from common.errors import InputError

__all__ = ["StillPictures"]


class StillPictures(FrameSource):
    """A picture, or the pictures of a folder in the order of the numbers in their names; each stands for itself.

    They may differ in size, and one that cannot be read is left out when iterating.

    Args:
        path: a picture or a folder; see :func:`common.data.video.frame_image.read_image` for what pictures may be.
        frame_rate: as of :class:`common.data.video.frame_folder.FrameFolder`.

    Attributes:
        size: (H, W) of all pictures, by their headers; None where they differ, or where none can be read.
        unreadable: why pictures were left out, by their files, as far as the last iteration has come.

    Raises:
        InputError: there is no picture in the folder.
        ValueError: the frame rate is not positive.
    """

    def __init__(self, path: str | os.PathLike, frame_rate: float | None = None) -> None:
        if frame_rate is not None and not frame_rate > 0:
            raise ValueError("a frame rate is positive")
        self._files = [Path(path)] if Path(path).is_file() else frame_files(path)
        if not self._files:
            raise InputError(path, f"holds no frames ({' '.join(FRAME_SUFFIXES)})", "pass a folder of frames")
        self._sizes = [picture_size(file) for file in self._files]
        self.unreadable: dict[Path, InputError] = {}
        known = {size for size in self._sizes if size is not None}
        size = known.pop() if len(known) == 1 else None
        super().__init__(path, size, frame_rate or FRAME_RATE, len(self._files), is_video=False)

    @property
    def sizes_differ(self) -> bool:
        """True where two pictures have different sizes, by their headers."""
        return len(set(self._sizes) - {None}) > 1

    def _checked(self) -> Iterator[Frame]:
        # The check of the base is that all frames have one size.
        return self._frames()

    def _frames(self) -> Iterator[Frame]:
        self.unreadable.clear()
        for index, (file, size) in enumerate(zip(self._files, self._sizes, strict=True)):
            try:
                picture = read_image(file)
                if picture.shape[:2] != size:  # what was announced counts: videos of it may have been begun
                    raise InputError(file, "is not of the size that its header states", "save it anew")
            except InputError as error:
                self.unreadable[file] = error
            else:
                yield Frame(picture, index, index / self.frame_rate, file.stem)

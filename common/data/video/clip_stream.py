"""Clips of videos that are decoded as they are needed."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.data.video.frames import Frame, FrameSource, source_name
from common.data.video.source import list_sources, open_source
from common.data.video.still_pictures import StillPictures
from common.errors import InputError

__all__ = ["ClipStream", "running_windows", "still_batches"]

logger = logging.getLogger(__name__)

_FRAMES, _MASKS = ("frames", "frame"), ("masks", "gt")
_HINT = "pass --input with a video, a folder of frames, or a folder of these"


def _holds_masks(path: Path) -> bool:
    """Return True for the masks' folder of a data set, beside that of the frames."""
    if path.name.lower() not in _MASKS or not path.is_dir():
        return False
    beside = (*_FRAMES, "images")
    return any(place.name.lower() in beside and place.is_dir() for place in path.parent.iterdir())


def _as_given(source: str) -> str:
    """Undo what MONAI does to each word of a configuration: it puts ``::`` in the place of ``#``."""
    given = source.replace("::", "#")
    return given if not os.path.exists(source) and os.path.exists(given) else source


def running_windows(frames: Iterable[Frame], length: int) -> Iterator[tuple[list[Frame], list[bool]]]:
    """Cut running frames into the clips of :func:`common.data.video.windows.scoring_windows`.

    The end of the video is known only when it is there, so a clip is given out when the next is complete.

    Args:
        frames: in time order.
        length: number T of frames of a clip.

    Yields:
        T frames, and T booleans: whose predictions count. Every frame counts once.
    """
    held: list[Frame] = []
    begun: list[Frame] = []
    for frame in frames:
        begun.append(frame)
        if len(begun) == length:
            if held:
                yield held, [True] * length
            held, begun = begun, []
    rest = len(begun)
    if held and rest:
        yield held, [at < rest for at in range(length)]
        yield held[rest:] + begun, [True] * length
    elif held:
        yield held, [True] * length
    elif rest:
        missing = length - rest
        yield begun[:1] * missing + begun, [at >= missing for at in range(length)]


def still_batches(frames: Iterable[Frame], length: int) -> Iterator[tuple[list[Frame], list[bool]]]:
    """Put frames that are looked at one by one together as they come, as long as they have one size.

    Args:
        frames: in their order.
        length: the most frames of a batch.

    Yields:
        The frames, and as many booleans: whose predictions count, which here all do.
    """
    held: list[Frame] = []
    for frame in frames:
        if held and frame.image.shape != held[0].image.shape:
            yield held, [True] * len(held)
            held = []
        held.append(frame)
        if len(held) == length:
            yield held, [True] * length
            held = []
    if held:
        yield held, [True] * len(held)


class ClipStream:
    """The clips of one video or of a folder of videos, for ``monai.data.IterableDataset``.

    Frames are decoded in a thread of their own while the network works (:class:`common.data.video.FrameSource`); no
    more than two clips are held. What cannot be read, or breaks off, is noted in ``failures``, and the next video
    follows.

    Each item: ``id`` (the video's stem of outputs), ``source`` (its place in ``sources``), ``image`` (T pictures, uint8
    RGB (H, W, 3), for :class:`common.transforms.LoadClipd`), ``picture`` (the same, stacked), ``frames`` (T indices),
    ``times`` (T seconds), ``names`` (T stems) and ``keep`` (T booleans).

    Args:
        source: a video, a folder of frames, or a folder that holds such at any depth; of a data set with masks, the
            frames.
        length: number T of frames of a clip.
        frame_rate: of folders of frames; 30 where None.
        still: frames are looked at one by one: a single picture is a source, too, and the pictures of a folder may
            differ in size. A clip holds up to T frames of one size then, all of which count; a picture that cannot be
            read is noted, and the next one follows.

    Attributes:
        sources: the paths.
        names: the stem of outputs of each.
        opened: the sources that were opened so far, by their place.
        failures: why videos could not be read to their end, and why pictures could not be read.
        broken: the places of those of which something could not be read.

    Raises:
        InputError: nothing is given, it does not exist, there is no video, or two of them have the same stem.
    """

    def __init__(
        self, source: str | os.PathLike | None, length: int, frame_rate: float | None = None, still: bool = False
    ) -> None:
        if source in (None, "", "None"):
            raise InputError("input", "no video is given", _HINT)
        self.place, self.length = _as_given(str(source)), int(length)
        if not os.path.exists(self.place):
            raise InputError(self.place, "does not exist", _HINT)
        self.frame_rate = None if frame_rate is None else float(frame_rate)
        self.still = still
        self.sources = [path for path in list_sources(self.place, still) if not _holds_masks(path)]
        self.names = [self._name(path) for path in self.sources]
        for place, name in enumerate(self.names):
            if (first := self.names.index(name)) != place:
                problem = f"would be written under the same name as {self.sources[first]}"
                raise InputError(self.sources[place], problem, "rename one of them")
        self.opened: dict[int, FrameSource] = {}
        self.failures: list[InputError] = []
        self.broken: set[int] = set()
        self._pictures_failed = 0
        # Nothing is left when it fails: one video, or one picture.
        self._is_single = len(self.sources) == 1 and not (still and self.sources[0].is_dir())

    def leave_out(self, names: Collection[str]) -> None:
        """Take the videos of these names off the list, before the first is opened."""
        kept = [place for place, name in enumerate(self.names) if name not in names]
        self.sources[:] = [self.sources[place] for place in kept]
        self.names[:] = [self.names[place] for place in kept]

    def _name(self, path: Path) -> str:
        """Return the stem of a source's outputs: for ``SEQ/frames`` of a data set that is SEQ."""
        if path.name.lower() in _FRAMES and path != Path(self.place):
            path = path.parent
        return source_name(path, root=None if len(self.sources) == 1 or path == Path(self.place) else self.place)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.failures.clear()
        self.broken.clear()
        self._pictures_failed = 0
        cut = still_batches if self.still else running_windows
        for place, path in enumerate(self.sources):
            try:
                with open_source(path, self.frame_rate, self.still) as source:
                    self.opened[place] = source
                    for frames, keep in cut(self._until_it_breaks(place, source), self.length):
                        yield self._item(place, frames, keep)
            except InputError as error:
                self._note(place, error)

    def _until_it_breaks(self, place: int, source: FrameSource) -> Iterator[Frame]:
        """Yield the frames up to where the file is damaged: what was read so far is segmented all the same."""
        try:
            yield from source
        except InputError as error:
            self._note(place, error)
        if isinstance(source, StillPictures):
            for error in source.unreadable.values():
                self._note(place, error)
            self._pictures_failed += len(source.unreadable)

    def _note(self, place: int, error: InputError) -> None:
        if not self._is_single:
            logger.error("%s", error)
        self.failures.append(error)
        self.broken.add(place)

    def _item(self, place: int, frames: list[Frame], keep: list[bool]) -> dict[str, Any]:
        pictures = [frame.image for frame in frames]
        return {
            "id": self.names[place],
            "source": place,
            "image": pictures,
            "picture": torch.from_numpy(np.stack(pictures)),
            "frames": torch.tensor([frame.index for frame in frames]),
            "times": torch.tensor([frame.time for frame in frames], dtype=torch.float64),
            "names": [frame.name for frame in frames],
            "keep": torch.tensor(keep),
        }

    def finish(self) -> None:
        """Report the failures once the rest is done.

        Raises:
            InputError: some videos could not be read to their end, or pictures could not.
        """
        if not self.failures:
            return
        videos = len(self.failures) - self._pictures_failed
        if self._is_single or (len(self.sources) == 1 and videos):
            raise self.failures[0]
        parts = [f"{videos} of {len(self.sources)} videos could not be read to the end"] if videos else []
        if self._pictures_failed:
            stills = [source for source in self.opened.values() if isinstance(source, StillPictures)]
            count = sum(source.frame_count for source in stills)
            parts.append(f"{self._pictures_failed} of {count} pictures could not be read")
        raise InputError(self.place, f"{', '.join(parts)} (first: {self.failures[0]})", "the rest is done")

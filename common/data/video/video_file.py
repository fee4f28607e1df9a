"""Video files: one frame after the other, and any frame by its number."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import av

from common.data.video.file_ends import is_cut_off
from common.data.video.frames import Frame, FrameSource
from common.data.video.video_stream import decode, open_video, rgb_image
from common.errors import InputError

__all__ = ["VideoFile", "frame_name", "read_video_frames"]

_REMEDY = "pass a whole copy of it, or cut off what follows"


class VideoFile(FrameSource):
    """A video file.

    The first frame is decoded at once, so that a file that cannot be used is refused here. Damage further on is an
    :class:`InputError` once the frames before it were read; errors that the decoder itself conceals are not seen.

    Args:
        path: the file, of one of ``common.data.video.video_stream.VIDEO_SUFFIXES``' formats.

    Raises:
        InputError: the file is no video that can be decoded.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        with open_video(path) as (_, stream):
            rate = stream.average_rate or stream.guessed_rate
            count = stream.frames or None
        self.path = Path(path)
        with closing(self._frames()) as frames:
            first = next(frames, None)
        if first is None:
            raise InputError(path, "holds no frame that can be decoded", _REMEDY)
        height, width = first.image.shape[:2]
        super().__init__(path, (height, width), float(rate) if rate else None, count, is_video=True)

    def _frames(self) -> Iterator[Frame]:
        count, start, time = 0, None, 0.0
        with open_video(self.path) as (container, stream):
            rate = stream.average_rate or stream.guessed_rate
            try:
                for picture, stamp in decode(container, stream):
                    start = stamp if start is None else start
                    if stamp is not None:
                        time = float((stamp - start) * stream.time_base)
                    elif count:
                        time += 1 / float(rate or 25)
                    yield _frame(self.path, picture, count, time)
                    count += 1
            except av.FFmpegError as error:
                raise InputError(self.path, f"is damaged after {count} frames ({error.strerror})", _REMEDY) from error
            stated = stream.frames or None
        # Some writers state too great a length: frames that are all there are believed more.
        if is_cut_off(self.path) and (stated is None or count < stated):
            raise InputError(self.path, f"is cut off after {count} frames: its end is missing", _REMEDY)


def frame_name(index: int) -> str:
    """Return the name of a video's frame: its number, padded so that names sort like numbers."""
    return f"{index:06d}"


def _frame(path: Path, picture: av.VideoFrame, index: int, time: float) -> Frame:
    try:
        return Frame(rgb_image(picture), index, time, frame_name(index))
    except av.FFmpegError:  # some of which are a ValueError too
        raise
    except ValueError as error:
        raise InputError(path, f"cannot be shown upright ({error})", "re-encode it upright") from error


@dataclass(frozen=True)
class _Table:
    """Where each frame of a video is: time stamps in order, and the numbers of those that decoding can start from."""

    stamps: tuple[int, ...]
    keys: tuple[int, ...]


def read_video_frames(path: str | os.PathLike, indices: Sequence[int]) -> list[Frame]:
    """Read frames of a video by their numbers; the same as iteration gives.

    MP4, QuickTime and Matroska are decoded from the key frame before. Where that is not certain to give the same
    frames (other formats, irregular time stamps), the video is decoded from its start.

    Args:
        path: the file.
        indices: frame numbers from 0, in any order.

    Returns:
        The frames, in the order of ``indices``.

    Raises:
        InputError: the file cannot be used, or has no such frame.
    """
    path = Path(path)
    wanted = sorted(set(indices))
    if wanted and wanted[0] < 0:
        raise ValueError("frame numbers start at 0")
    try:
        status = path.stat()
        table = _table(path, status.st_mtime_ns, status.st_size)
    except OSError:
        table = None  # opening it tells why
    found = None
    if table and wanted and wanted[-1] < len(table.stamps):
        found = _by_key_frames(path, table, wanted)
    if found is None:
        found = _from_the_start(path, wanted)
    return [found[index] for index in indices]


def _from_the_start(path: Path, wanted: list[int]) -> dict[int, Frame]:
    found: dict[int, Frame] = {}
    chosen = set(wanted)
    with VideoFile(path) as video:
        for frame in video:
            if frame.index in chosen:
                found[frame.index] = frame
            if len(found) == len(chosen):
                return found
            count = frame.index + 1
    missing = next(index for index in wanted if index not in found)
    raise InputError(path, f"has no frame {missing}: it has {count}, from 0 on", "correct the number")


@lru_cache(maxsize=256)
def _table(path: Path, _changed: int, _length: int) -> _Table | None:
    """Make a video's table without decoding; None where it might not agree with what decoding gives."""
    stamps: list[int] = []
    keys: list[int] = []
    try:
        with open_video(path) as (container, stream):
            if not container.format.name.startswith(("mov", "matroska")):
                return None
            for packet in container.demux(stream):
                if not packet.size:
                    continue
                if packet.pts is None or packet.is_corrupt or packet.is_discard:
                    return None
                stamps.append(packet.pts)
                if packet.is_keyframe:
                    keys.append(packet.pts)
    except (av.FFmpegError, InputError):
        return None
    if not stamps or keys[:1] != stamps[:1] or stamps[0] != min(stamps) or len(set(stamps)) != len(stamps):
        return None
    stamps.sort()
    number = {stamp: index for index, stamp in enumerate(stamps)}
    return _Table(tuple(stamps), tuple(sorted(number[stamp] for stamp in keys)))


def _by_key_frames(path: Path, table: _Table, wanted: list[int]) -> dict[int, Frame] | None:
    """Read frames from the key frames before them; None where other frames came than the table promises."""
    found: dict[int, Frame] = {}
    number = {stamp: index for index, stamp in enumerate(table.stamps)}
    coming, pictures = -1, iter(())
    try:
        with open_video(path) as (container, stream):
            for target in wanted:
                key = table.keys[bisect_right(table.keys, target) - 1]
                if not key <= coming <= target:
                    container.seek(table.stamps[key], stream=stream)
                    coming, pictures = key, decode(container, stream)
                for picture, _ in pictures:
                    index = number.get(picture.pts, -1)
                    if index < key and coming == key:
                        continue  # the container went further back than it had to
                    if index != coming:
                        return None
                    coming += 1
                    if index == target:
                        time = float((table.stamps[index] - table.stamps[0]) * stream.time_base)
                        found[index] = _frame(path, picture, index, time)
                        break
                else:
                    return None
    except av.FFmpegError:
        return None
    return found

"""Open the picture stream of a video file and decode it."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import av
import av.logging
import numpy as np
from av.stream import Disposition

from common.data.video.file_ends import is_cut_off
from common.data.video.orientation import upright
from common.errors import InputError

__all__ = ["VIDEO_SUFFIXES", "decode", "open_video", "picture_stream", "rgb_image"]

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".ts")

# A file that calls itself a video shall not make the library read play lists, other files or the network.
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": "mov,matroska,avi,mpeg,mpegvideo,mpegts,asf"}
# libswscale's bilinear, accurate rounding, full chroma: without the last two all comes out one grey level darker.
_CONVERSION = 0x2 | 0x40000 | 0x2000
_RE_ENCODE = "pass a whole copy of it or re-encode it (for example as H.264 in .mp4)"


@contextmanager
def open_video(path: str | os.PathLike) -> Iterator[tuple[av.container.InputContainer, av.video.stream.VideoStream]]:
    """Open a video file for reading.

    Args:
        path: the file, of one of ``VIDEO_SUFFIXES``' formats.

    Yields:
        The container and its picture stream.

    Raises:
        InputError: the file is missing, unreadable, empty, not a video, without pictures, or in a codec that the
            library lacks.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            if not file.read(1):
                raise InputError(path, "is empty (0 bytes)", "pass a whole copy of it")
        # With the protocol in front, a colon in the name does not make one.
        container = av.open(f"file:{path}", options=_OPTIONS, metadata_errors="replace")
    except av.FFmpegError as error:
        cut = is_cut_off(path)
        problem = "is cut off: its end, with the index, is missing" if cut else "is no video, or damaged at its start"
        raise InputError(path, problem, _RE_ENCODE) from error
    except OSError as error:
        raise InputError(
            path, f"cannot be read ({error.strerror or error})", "pass a file that you may read"
        ) from error
    with container:
        yield container, picture_stream(container, path)


def picture_stream(container: av.container.InputContainer, where: object) -> av.video.stream.VideoStream:
    """Return a container's picture stream.

    Args:
        container: an open one.
        where: what an error names.

    Raises:
        InputError: there is none (sound and cover pictures do not count), or nothing can decode it.
    """
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        raise InputError(where, "holds no pictures, only sound or data", "pass a video")
    if streams[0].codec_context is None:
        codec = _codec_name(container.name)
        raise InputError(where, f"is in a codec that cannot be decoded here ({codec})", _RE_ENCODE)
    return streams[0]


def _codec_name(url: str) -> str:
    """Return what a file calls the codec that the library does not know; only the library's log tells."""
    level, skip = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.WARNING)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture() as lines, suppress(av.FFmpegError):
            av.open(url, options=_OPTIONS, metadata_errors="replace").close()
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skip)
    found = re.search(r"Video: (?:none \((\S+)|(?!none)(\w+))", " ".join(line for _, _, line in lines))
    return next(filter(None, found.groups())) if found else "unknown"


def decode(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream
) -> Iterator[tuple[av.VideoFrame, int | None]]:
    """Decode a stream from where the container stands.

    Damage ends it: the pictures before it come first.

    Yields:
        Each picture in the order of display, with its time stamp in the stream's time base (None where it has none).

    Raises:
        av.FFmpegError: the stream is damaged.
    """
    # AVI states when data come, not when pictures are shown: those times, in their order, are the pictures'.
    in_avi = container.format.name == "avi"
    arrivals: deque[int | None] = deque()

    def stamped(picture: av.VideoFrame) -> tuple[av.VideoFrame, int | None]:
        if not in_avi:
            return picture, picture.pts
        return picture, arrivals.popleft() if arrivals else None

    try:
        packets = container.demux(stream)
        # Only this format's reader passes off the piece before the cut as a whole packet.
        if container.format.name == "asf" and is_cut_off(container.name.removeprefix("file:")):
            packets = _all_but_the_last(packets)
        for packet in packets:
            if packet.is_corrupt:
                raise av.InvalidDataError(0, "Incomplete data")
            if in_avi and packet.size:
                arrivals.append(packet.dts)
            for picture in packet.decode():
                yield stamped(picture)
    except av.FFmpegError:
        with suppress(av.FFmpegError):
            for picture in stream.decode(None):
                yield stamped(picture)
        raise


def _all_but_the_last(packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
    held = None
    for packet in packets:
        if not packet.size:  # the end, which makes the decoder give out what it holds
            yield packet
            return
        if held is not None:
            yield held
        held = packet


def rgb_image(picture: av.VideoFrame) -> np.ndarray:
    """Return a decoded picture as (H, W, 3) uint8 RGB, upright.

    Colours follow the stream's own colour space and range; where it names none, ITU-R BT.601. Pixels stay as they are
    stored where they are not square. More than 8 bit are rounded to 8.

    Raises:
        ValueError: the picture is to be shown turned by other than right angles.
    """
    image = picture.to_ndarray(format="rgb24", interpolation=_CONVERSION)
    for data in picture.side_data:
        if data.type.name == "DISPLAYMATRIX":
            image = upright(image, np.frombuffer(bytes(data), np.int32))
    return image

"""Write videos that can be played whatever becomes of the program."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import ClassVar

import av
import numpy as np
from PIL import Image

from common.data.atomic import atomic_path
from common.errors import InputError

__all__ = ["MaskVideoWriter", "OverlayVideoWriter", "VideoWriter", "write_mask_png"]

# Fine enough for any rate (25, 29.97 and 30 are whole numbers of it) and no finer than MPEG-4 Part 2 allows.
_TICK = Fraction(1, 60000)
_STEP = 60  # ticks between two frames at least: Matroska counts milliseconds
_REMEDY = "free space or choose another output_dir"


class VideoWriter(ABC):
    """A video file that is written frame by frame, each with its own time.

    While it is written the file has ``.part`` before its suffix; :meth:`close` gives it its name. A program that is
    killed leaves the part, which plays up to the last second or so. When something fails, what was written gets the
    name and can be played. No file is left where there was no frame.

    Args:
        path: the file; missing parent folders are created.
        size: (H, W) of the frames.
        frame_rate: frames per second, as a hint for players; the times of the frames count. None where it is not known.
        overwrite: replace a file of that name, else it is refused. A part of an earlier run is always replaced.

    Raises:
        InputError: the file exists, has another suffix than ``suffix``, or cannot be written.
    """

    suffix: ClassVar[str]
    _container_options: ClassVar[dict[str, str]]

    def __init__(
        self, path: str | os.PathLike, size: tuple[int, int], frame_rate: float | None, overwrite: bool = False
    ) -> None:
        self.path = Path(path)
        self.size = tuple(size)
        if self.path.suffix.lower() != self.suffix:
            raise InputError(path, f"is written as {self.suffix}", f"let its name end in {self.suffix}")
        if self.path.exists() and not overwrite:
            raise InputError(path, "exists", "pass another output folder or overwrite=True")
        self._part = self.path.with_name(f"{self.path.stem}.part{self.path.suffix}")
        self._last: int | None = None
        self._begun = False  # whether the file has been opened, which its first packet does
        self._shift = 0
        self._rate = max(Fraction(frame_rate or 25).limit_denominator(1001), Fraction(1, 1001))
        self._closed = False
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(f"file:{self._part}", "w", options=self._container_options)
        except OSError as error:
            raise self._refusal(error) from error
        self._stream = self._add_stream(self._container, self._rate)
        self._stream.codec_context.time_base = self._stream.time_base = _TICK

    @abstractmethod
    def _add_stream(self, container: av.container.OutputContainer, rate: Fraction) -> av.video.stream.VideoStream:
        """Add the picture stream, with its codec, size and pixel format."""

    @abstractmethod
    def _picture(self, image: np.ndarray) -> av.VideoFrame:
        """Make what the encoder takes of an image."""

    def write(self, image: np.ndarray, time: float) -> None:
        """Add a frame.

        Args:
            image: uint8, of the writer's size.
            time: seconds from the start of the video, kept to within a millisecond. A video's time only runs forward:
                a frame whose time does not comes one frame's duration after the last, and those after it follow on.

        Raises:
            InputError: it cannot be written.
            ValueError: the image has another size or type, or the writer is closed.
        """
        if self._closed:
            raise ValueError(f"{self.path} is closed")
        if image.shape[:2] != self.size or image.dtype != np.uint8:
            raise ValueError(f"a frame of {image.dtype} {image.shape} does not fit a video of {self.size}")
        picture = self._picture(image)
        picture.pts, picture.time_base = self._ticks(time), _TICK
        try:
            self._mux(self._stream.encode(picture))
        except (OSError, av.FFmpegError) as error:
            self._finish()
            raise self._refusal(error) from error

    def close(self) -> None:
        """Write what the encoder holds and give the file its name. Closing again does nothing.

        Raises:
            InputError: it cannot be written; what was written before has the name.
        """
        if self._closed:
            return
        error = self._finish()
        if error is not None:
            raise self._refusal(error) from error

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        elif not self._closed:
            self._finish()  # the error on its way says more than one of the disk that follows from it

    def _ticks(self, time: float) -> int:
        ticks = round(time / _TICK) + self._shift
        if self._last is None:
            self._shift = -min(ticks, 0)
            ticks += self._shift
        elif ticks < self._last + _STEP:
            step = max(_STEP, round(1 / (self._rate * _TICK)))
            self._shift += self._last + step - ticks
            ticks = self._last + step
        self._last = ticks
        return ticks

    def _finish(self) -> Exception | None:
        """End the file and name it; return what went wrong."""
        self._closed = True
        failures: list[Exception] = []
        for step in (self._flush, self._container.close, self._give_name):
            try:
                step()
            except (OSError, av.FFmpegError) as error:  # the steps after it save what can be saved
                failures.append(error)
        return failures[0] if failures else None

    def _flush(self) -> None:
        if self._last is not None:
            self._mux(self._stream.encode())

    def _mux(self, packets: list[av.Packet]) -> None:
        self._begun = self._begun or bool(packets)
        self._container.mux(packets)

    def _give_name(self) -> None:
        if self._begun:
            os.replace(self._part, self.path)
        else:
            self._part.unlink(missing_ok=True)

    def _refusal(self, error: Exception) -> InputError:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return InputError(self.path, f"cannot be written ({reason})", _REMEDY)


class MaskVideoWriter(VideoWriter):
    """Masks as a lossless video: FFV1, 8-bit grey, in Matroska (.mkv).

    :meth:`write` takes (H, W) uint8; 0 and 255 by convention, but any value comes back as it was.
    """

    suffix = ".mkv"
    _container_options: ClassVar[dict[str, str]] = {"cluster_time_limit": "1000", "flush_packets": "1"}

    def _add_stream(self, container: av.container.OutputContainer, rate: Fraction) -> av.video.stream.VideoStream:
        # Each frame on its own, with a checksum, by one thread: nothing waits in the encoder when the program dies.
        stream = container.add_stream("ffv1", rate=rate, options={"level": "3", "g": "1", "slicecrc": "1"})
        stream.codec_context.thread_count = 1
        stream.height, stream.width = self.size
        stream.pix_fmt = "gray"
        stream.codec_context.color_range = 2  # 0..255
        return stream

    def _picture(self, image: np.ndarray) -> av.VideoFrame:
        if image.ndim != 2:
            raise ValueError(f"a mask is (H, W), not {image.shape}")
        return av.VideoFrame.from_ndarray(image, format="gray")


class OverlayVideoWriter(VideoWriter):
    """Pictures as a video that plays everywhere: H.264 (MPEG-4 Part 2 where there is no encoder), 4:2:0, in .mp4.

    :meth:`write` takes (H, W, 3) uint8 RGB. An odd width or height is made even by repeating the last column or row,
    as 4:2:0 has one colour for two by two pixels. Colours are those of ITU-R BT.709.
    """

    suffix = ".mp4"
    # In fragments of a second while it is written, an ordinary file when it is closed.
    _container_options: ClassVar[dict[str, str]] = {
        "movflags": "hybrid_fragmented",
        "frag_duration": "1000000",
        "flush_packets": "1",
    }

    def _add_stream(self, container: av.container.OutputContainer, rate: Fraction) -> av.video.stream.VideoStream:
        try:
            options = {"preset": "veryfast", "crf": "20", "tune": "zerolatency"}
            stream = container.add_stream("libx264", rate=rate, options=options)
        except av.error.EncoderNotFoundError:
            # A constant quantiser of 3, in the library's unit of 1/118.
            stream = container.add_stream("mpeg4", rate=rate, options={"flags": "+qscale", "global_quality": "354"})
        height, width = self.size
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.gop_size = max(1, round(rate))
        context.max_b_frames = 0
        context.color_range = 1  # 16..235
        context.colorspace = context.color_primaries = context.color_trc = 1  # ITU-R BT.709
        return stream

    def _picture(self, image: np.ndarray) -> av.VideoFrame:
        if image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"a picture is (H, W, 3), not {image.shape}")
        height, width = self.size
        if height % 2 or width % 2:
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        return picture.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")


def write_mask_png(path: str | os.PathLike, mask: np.ndarray) -> None:
    """Write a mask as an 8-bit grey PNG, whole or not at all.

    Args:
        path: the file, which ends in ``.png``; missing parent folders are created.
        mask: (H, W) uint8; 0 and 255 by convention.

    Raises:
        InputError: it cannot be written.
        ValueError: the mask has another shape or type.
    """
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise ValueError(f"a mask is uint8 (H, W), not {mask.dtype} {mask.shape}")
    with atomic_path(path) as temporary:
        Image.fromarray(mask).save(temporary, format="PNG")

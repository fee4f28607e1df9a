"""Cameras and network streams."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import av
import av.device
import numpy as np

from common.data.video.video_stream import picture_stream, rgb_image
from common.errors import InputError

__all__ = ["is_camera", "open_camera", "shown_address"]

# A stream from elsewhere shall not make the library read files of this machine.
_PROTOCOLS = "crypto,http,httpproxy,https,rtmp,rtp,rtsp,srt,srtp,tcp,tls,udp"
_REMEDY = "check that it is connected and that no other program uses it"


def is_camera(source: str) -> bool:
    """Return whether a text names a camera or a network stream rather than a file or folder."""
    number_or_name = re.fullmatch(r"[0-9]+|video=.+|[a-z][a-z0-9+.-]*://.+", source, re.IGNORECASE | re.DOTALL)
    return bool(number_or_name) or Path(source).is_char_device() or source.startswith("/dev/video")


def shown_address(source: str) -> str:
    """Return an address without the user name and password in it."""
    return re.sub(r"://[^/]*@", "://", source)


def open_camera(
    source: str, frame_rate: float | None, patience: float | None
) -> tuple[Iterator[tuple[float, np.ndarray]], float | None]:
    """Open a camera or a network stream.

    A packet that cannot be decoded is passed over, as frames of a stream get lost on the way.

    Args:
        source: see :func:`common.data.video.live.open_live`.
        frame_rate: frames per second to ask a camera for; its own choice where None.
        patience: seconds after which opening and reading give up.

    Returns:
        An iterator of (time in seconds, (H, W, 3) uint8 RGB), which ends with the stream, and the frame rate where
        the source states it.

    Raises:
        InputError: it cannot be opened; the iterator raises it when the source breaks off.
    """
    file, kind, options = _address(source)
    if frame_rate is not None and kind:
        options["framerate"] = f"{frame_rate:g}"
    name = shown_address(source)
    try:
        container = av.open(file, format=kind, options=options, timeout=patience, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        reason = _reason(error, patience)
        raise InputError(name, f"cannot be opened ({reason})", _REMEDY) from error
    try:
        stream = picture_stream(container, name)
    except InputError:
        container.close()
        raise
    return _pictures(container, stream, name, patience), float(stream.average_rate) if stream.average_rate else None


def _pictures(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream, name: str, patience: float | None
) -> Iterator[tuple[float, np.ndarray]]:
    with container:
        try:
            for packet in container.demux(stream):
                try:
                    pictures = packet.decode()
                except av.InvalidDataError:
                    continue
                for picture in pictures:
                    stamp = picture.pts
                    yield time.monotonic() if stamp is None else float(stamp * stream.time_base), rgb_image(picture)
        except av.FFmpegError as error:
            raise InputError(name, f"broke off ({_reason(error, patience)})", _REMEDY) from error


def _reason(error: Exception, patience: float | None) -> str:
    if isinstance(error, av.error.ExitError):  # what the library's time limit becomes
        return f"no answer for {patience:g} s"
    return getattr(error, "strerror", None) or str(error)


def _address(source: str) -> tuple[str, str | None, dict[str, str]]:
    """Return what the library opens, the input format and its options."""
    if "://" in source:
        over_tcp = {"rtsp_transport": "tcp"} if source.lower().startswith("rtsp") else {}
        return source, None, {"protocol_whitelist": _PROTOCOLS, **over_tcp}
    if sys.platform == "darwin":
        return f"{source}:none", "avfoundation", {"framerate": "30"}
    if sys.platform == "win32":
        if not source.isdecimal():
            return source, "dshow", {}
        cameras = [device for device in av.device.enumerate_input_devices("dshow") if "video" in device.media_types]
        if int(source) >= len(cameras):
            raise InputError(source, f"is no camera: {len(cameras)} are connected, from 0 on", _REMEDY)
        return f"video={cameras[int(source)].name}", "dshow", {}
    return f"/dev/video{source}" if source.isdecimal() else source, "v4l2", {}

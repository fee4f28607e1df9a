"""Small videos in many formats, made on the fly, and what is wrong with bad ones."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition

RATE = 25
SIZE = (48, 64)  # height, width

# name of a format: file name, encoder, pixel format, options of the encoder
FORMATS: dict[str, tuple[str, str, str, dict[str, str]]] = {
    "h264": ("a.mp4", "libx264", "yuv420p", {"g": "12", "bf": "3"}),
    "h264_mkv": ("a.mkv", "libx264", "yuv420p", {"g": "12", "bf": "3"}),
    "h264_avi": ("b.avi", "libx264", "yuv420p", {"g": "12", "bf": "3"}),
    "h264_ts": ("a.ts", "libx264", "yuv420p", {"g": "12", "bf": "3"}),
    "hevc_10_bit": ("h.mp4", "libx265", "yuv420p10le", {"x265-params": "keyint=12:log-level=none:pools=1"}),
    "mpeg4": ("m.avi", "mpeg4", "yuv420p", {"g": "12", "bf": "2", "b": "4000000"}),
    "mpeg2": ("m.mpg", "mpeg2video", "yuv420p", {"g": "12", "b": "4000000"}),
    "mjpeg": ("j.mov", "mjpeg", "yuvj420p", {"b": "9000000"}),
    "prores": ("p.mov", "prores_ks", "yuv422p10le", {}),
    "ffv1": ("f.mkv", "ffv1", "bgr0", {}),
    "vp9": ("v.webm", "libvpx-vp9", "yuv420p", {"g": "12", "crf": "10", "cpu-used": "8"}),
    "wmv": ("w.wmv", "wmv2", "yuv420p", {"g": "12", "b": "4000000"}),
    "m4v": ("a.m4v", "libx264", "yuv420p", {}),
}


def pictures(count: int, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    """Return pictures that differ in their grey and in where a red block is."""
    frames = []
    for index in range(count):
        frame = np.full((*size, 3), 40 + index * 5 % 160, np.uint8)
        left = index * 3 % (size[1] - 16)
        frame[8:24, left : left + 16] = (200, 40, 60)
        frames.append(frame)
    return frames


def write_video(
    path: Path,
    frames: Sequence[np.ndarray],
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    times: Sequence[float] | None = None,
    tick: Fraction = Fraction(1, 90000),
    rotation: int = 0,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Encode frames at ``RATE``, or at the times given in seconds, which are counted in ticks."""
    tick = Fraction(1, RATE) if times is None else tick
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=RATE, options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = tick
        if rotation:
            stream.set_display_rotation(rotation)
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame)
            picture.pts = index if times is None else round(times[index] / tick)
            picture.time_base = tick
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def write_format(folder: Path, name: str, frames: Sequence[np.ndarray]) -> Path:
    """Encode frames in one of ``FORMATS``."""
    file, codec, pixels, options = FORMATS[name]
    return write_video(folder / file, frames, codec, pixels, options)


def write_size_change(path: Path, sizes: Sequence[tuple[int, int]]) -> Path:
    """Write a Motion JPEG stream of which every frame has its own size."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=RATE)
        stream.height, stream.width = sizes[0]
        stream.pix_fmt = "yuvj420p"
        for index, size in enumerate(sizes):
            encoder = av.CodecContext.create("mjpeg", "w")
            encoder.height, encoder.width = size
            encoder.pix_fmt, encoder.time_base = "yuvj420p", Fraction(1, RATE)
            for packet in encoder.encode(av.VideoFrame.from_ndarray(pictures(1, size)[0])):
                packet.stream, packet.pts, packet.dts = stream, index, index
                packet.time_base = Fraction(1, RATE)
                container.mux(packet)
    return path


def write_sound(path: Path, cover: np.ndarray | None = None) -> Path:
    """Write a file that holds sound and no video; a cover picture at most."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        if cover is not None:
            picture = container.add_stream("mjpeg", rate=1)
            picture.height, picture.width = cover.shape[:2]
            picture.pix_fmt = "yuvj420p"
            picture.disposition = Disposition.attached_pic
            container.mux(picture.encode(av.VideoFrame.from_ndarray(cover)))
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        tone.sample_rate, tone.pts = 8000, 0
        container.mux(stream.encode(tone))
        container.mux(stream.encode())
    return path


def cut(path: Path, share: float) -> Path:
    """Cut a file off after a share of its length."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def write_tiff(
    path: Path, image: np.ndarray, meaning: int, tags: dict[int, int] | None = None, order: str = "<"
) -> Path:
    """Write an uncompressed TIFF by hand, of kinds that no library at hand writes.

    Args:
        path: the file.
        image: (H, W, C) of any number type; (C, H, W) with tag 284 at 2 (planes).
        meaning: photometric interpretation.
        tags: further short tags, which replace those that are derived.
        order: ``<`` or ``>``.
    """
    tags = tags or {}
    height, width, channels = np.moveaxis(image, 0, -1).shape if tags.get(284) == 2 else image.shape
    planes = channels if tags.get(284) == 2 else 1
    data = image.astype(image.dtype.newbyteorder(order)).tobytes()
    start, size = 1024, len(data) // planes
    entries: dict[int, list[int]] = {
        **{256: [width], 257: [height], 258: [image.itemsize * 8] * channels, 259: [1], 262: [meaning]},
        **{273: [start + plane * size for plane in range(planes)], 277: [channels], 278: [height]},
        **{279: [size] * planes, **{tag: [value] for tag, value in tags.items()}},
    }
    lines, tail = b"", b""
    after = 8 + 2 + 12 * len(entries) + 4
    for tag in sorted(entries):
        values = struct.pack(f"{order}{len(entries[tag])}I", *entries[tag])
        if len(values) > 4:
            values, tail = struct.pack(f"{order}I", after + len(tail)), tail + values
        lines += struct.pack(f"{order}HHI", tag, 4, len(entries[tag])) + values
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    path.write_bytes((head + lines + bytes(4) + tail).ljust(start, b"\0") + data)
    return path

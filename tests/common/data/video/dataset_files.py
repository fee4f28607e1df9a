"""Small data sets of annotated video, written in the ways that are found."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

SIZE = (16, 24)  # height and width; H.264 wants even numbers


def picture(value: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A grey picture of one value, (H, W, 3)."""
    return np.full((*size, 3), value, np.uint8)


def drawn(column: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A mask (H, W) of 0 and 255 whose foreground begins at a column."""
    mask = np.zeros(size, np.uint8)
    mask[:, column:] = 255
    return mask


def write_picture(path: Path, image: np.ndarray) -> Path:
    """Write a picture, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def write_pairs(
    frames: Path, masks: Path, stems: Iterable[str], suffixes: tuple[str, str] = (".png", ".png"),
    size: tuple[int, int] = SIZE,
) -> None:  # fmt: skip
    """Write frames, number i of value i, and their masks, which begin at column i."""
    for i, stem in enumerate(stems):
        write_picture(frames / f"{stem}{suffixes[0]}", picture(i % 256, size))
        write_picture(masks / f"{stem}{suffixes[1]}", drawn(i % size[1], size))


def write_sequences(
    root: Path, lengths: Mapping[str, int], folders: tuple[str, str] = ("frames", "masks"),
    suffixes: tuple[str, str] = (".png", ".png"), size: tuple[int, int] = SIZE,
) -> Path:  # fmt: skip
    """Write a folder for each sequence, frames from 000 on."""
    for name, length in lengths.items():
        stems = [f"{i:03d}" for i in range(length)]
        write_pairs(*(root / name / folder for folder in folders), stems, suffixes, size)
    return root


def write_json(path: Path, content: Any) -> Path:
    """Write a JSON file."""
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_video(path: Path, images: Iterable[np.ndarray], rate: int = 25) -> Path:
    """Write a lossless video (FFV1 in Matroska) of (H, W, 3) pictures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w") as container:
        stream = None
        for i, image in enumerate(images):
            if stream is None:
                stream = container.add_stream("ffv1", rate=rate)
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt, stream.time_base = "bgr0", Fraction(1, rate)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = i, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path

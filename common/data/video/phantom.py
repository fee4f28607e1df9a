"""Synthetic endoscopic video with masks of the nerve: the data set for training where there is no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from common.data.made_data import make_once
from common.data.video.phantom_motion import FRAME_RATE
from common.data.video.phantom_scene import Scene
from common.errors import InputError

__all__ = ["VIDEO_PHANTOM_VERSION", "VideoPhantom", "make_video_phantom", "write_video_phantoms"]

VIDEO_PHANTOM_VERSION = 1  # to be raised whenever the same seed gives other pixels
_APPEARS, _GOES = 0.022, 0.012  # parts of the view from which on a nerve is drawn, and below which no longer
_GOLDEN = (5**0.5 - 1) / 2
_COARSE = 48  # shorter side of the grid on which that is judged, so that all sizes agree
_PARTS = ("train", "validation", "train", "test", "train")


@dataclass(frozen=True)
class VideoPhantom:
    """One phantom sequence of L frames.

    Attributes:
        frames: uint8 of shape (L, H, W, 3), red, green, blue.
        masks: uint8 of shape (L, H, W): 255 where the nerve is visible, 0 elsewhere.
        present: bool of shape (L,): whether the mask of a frame holds anything.
        frame_rate: frames per second.
    """

    frames: np.ndarray
    masks: np.ndarray
    present: np.ndarray
    frame_rate: float


def make_video_phantom(seed: int, length: int = 40, size: tuple[int, int] = (256, 448)) -> VideoPhantom:
    """Make a phantom sequence of spinal endoscopy.

    The same arguments give the same bytes. Another size shows the same scene in other pixels; a longer sequence begins
    as a shorter one does.

    Args:
        seed: not negative.
        length: number of frames, 1 or more.
        size: height and width of the frames, 32 or more.

    Returns:
        The sequence.

    Raises:
        ValueError: an argument is out of range.
    """
    if seed < 0:
        raise ValueError(f"seed {seed} is negative")
    if length < 1:
        raise ValueError(f"length {length} is not a number of frames")
    if len(size) != 2 or min(size) < 32:
        raise ValueError(f"size {size} is not a height and a width of 32 or more")
    for_scene, for_noise = np.random.default_rng([30, seed]).spawn(2)
    x, y, pixel = _grid(size)
    # Multiples of the golden ratio spread evenly, so that a few seeds in a row give all kinds of sequences.
    scene = Scene(for_scene, seed * _GOLDEN % 1.0, pixel)
    poses = [scene.pose(frame) for frame in range(-1, length)]
    drawn = _drawn(scene, poses[1:], size)

    view = scene.optics.view(x, y)
    box = tuple(slice(*np.flatnonzero(view.any(axis=1 - axis))[[0, -1]] + (0, 1)) for axis in range(2))
    frames = np.zeros((length, *size, 3), np.uint8)
    masks = np.zeros((length, *size), np.uint8)
    for frame, noise in enumerate(for_noise.spawn(length)):
        pose, shown = poses[frame + 1]
        surface = scene.paint(x[box].ravel(), y[box].ravel(), pose, shown, frame)
        light = np.zeros((*size, 3), np.float32)
        light[box] = scene.optics.light(surface, x[box], y[box], frame)
        light[box] = scene.fluid.carry(light[box], x[box], y[box], frame)
        motion = scene.blur(pose, poses[frame][0])
        frames[frame] = scene.optics.develop(light, view, motion, frame, noise)
        if drawn[frame]:
            masks[frame][box] = 255 * (surface.nerve.reshape(view[box].shape) * view[box] >= 0.5)
    return VideoPhantom(frames, masks, masks.any(axis=(1, 2)), FRAME_RATE)


def _grid(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, float]:
    """Return every pixel's place to the right and down, and the pixel size; the unit is half of the shorter side."""
    pixel = 2 / min(size)
    down, right = ((np.arange(n, dtype=np.float32) - (n - 1) / 2) * np.float32(pixel) for n in size)
    return (*np.meshgrid(right, down), pixel)


def _drawn(scene: Scene, poses: list, size: tuple[int, int]) -> list[bool]:
    """Tell in which frames an annotator draws the nerve: a last sliver of it at an edge does not count."""
    x, y, _ = _grid(tuple(round(n * _COARSE / min(size)) for n in size))
    x, y = x.ravel(), y.ravel()
    view, drawn = scene.optics.view(x, y), [False]
    for frame, (pose, shown) in enumerate(poses):
        visible = (scene.paint(x, y, pose, shown, frame).nerve * view).sum() / view.sum()
        drawn.append(bool(visible > (_GOES if drawn[-1] else _APPEARS)))
    return drawn[1:]


def write_video_phantoms(
    folder: str | Path,
    count: int,
    seed: int = 0,
    length: int = 40,
    size: tuple[int, int] = (256, 448),
    report: Callable[[str], None] | None = None,
) -> Path:
    """Write a data set of phantoms: ``SEQ/frames/0000.png``, ``SEQ/masks/0000.png`` and, last, ``index.json``.

    Three of five sequences are for training, one for validation, one for testing. The folder appears whole or not at
    all. A folder that holds the same data set already is left as it is.

    Args:
        folder: where to write it.
        count: number of sequences, 1 or more.
        seed: another seed gives other sequences.
        length: number of frames of each sequence.
        size: height and width of the frames.
        report: called with a line of text before each sequence.

    Returns:
        Path of ``index.json``.

    Raises:
        InputError: the folder holds something else or cannot be written, or a number is out of range.
    """
    folder = Path(folder)
    if count < 1:
        raise InputError("count", f"{count} is not a number of sequences", "use 1 or more")
    if seed < 0:
        raise InputError("seed", f"{seed} is negative", "use 0 or more")
    if length < 1:
        raise InputError("length", f"{length} is not a number of frames", "use 1 or more")
    if len(size) != 2 or min(size) < 32:
        raise InputError("size", f"{list(size)} is not a height and a width", "use two numbers of 32 or more")
    generator = {
        "version": VIDEO_PHANTOM_VERSION,
        "seed": int(seed),
        "count": int(count),
        "length": int(length),
        "size": [int(n) for n in size],
    }
    return make_once(folder, generator, lambda empty: _write_sequences(empty, generator, report))


def _write_sequences(folder: Path, generator: dict, report: Callable[[str], None] | None) -> None:
    count, sequences = generator["count"], []
    for i in range(count):
        name = f"phantom_{i:03d}"
        if report is not None:
            report(f"{name} ({i + 1} of {count})")
        phantom = make_video_phantom(generator["seed"] * 10_000 + i, generator["length"], tuple(generator["size"]))
        for kind, images in (("frames", phantom.frames), ("masks", phantom.masks)):
            (folder / name / kind).mkdir(parents=True)
            for frame, image in enumerate(images):
                Image.fromarray(image).save(folder / name / kind / f"{frame:04d}.png", compress_level=3)
        sequences.append({"id": name, "part": _PARTS[i % 5], "subject": name, "present": phantom.present.tolist()})
    index = {"frame_rate": FRAME_RATE, "sequences": sequences, "generator": generator}
    (folder / "index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")

"""Run SSHSNet's exported stages over a volume: ``windows.py EXPORT_DIR VOLUME.npy PROBABILITIES.npy``.

Needs numpy and onnxruntime only. VOLUME.npy: float32 (H, W, D), preprocessed as export.json says.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import onnxruntime


def open_part(folder: Path, name: str) -> onnxruntime.InferenceSession:
    """Open the ONNX file of a part that export.json describes."""
    description = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    part = next(part for part in description["parts"] if part["name"] == name)
    file = next(file["file"] for file in part["files"] if file["format"] == "onnx")
    return onnxruntime.InferenceSession(str(folder / file), providers=["CPUExecutionProvider"])


def starts(length: int, size: int, stride: int) -> list[int]:
    """Return where pieces of a size start that cover a length; the last one is moved back to the border."""
    count = -(-(length - size) // stride) + 1
    return [min(number * stride, length - size) for number in range(count)]


def pad(volume: np.ndarray, size: Sequence[int]) -> tuple[np.ndarray, tuple[slice, ...]]:
    """Pad a volume to a window; return it, and where in it the volume lies."""
    missing = [max(least - length, 0) for least, length in zip(size, volume.shape, strict=True)]
    margins = [(more // 2, more - more // 2) for more in missing]
    inside = tuple(slice(before, before + length) for (before, _), length in zip(margins, volume.shape, strict=True))
    volume = np.pad(volume, [(0, 0), (0, 0), margins[2]], mode="edge")
    return np.pad(volume, [margins[0], margins[1], (0, 0)]), inside


def segment(folder: Path, volume: np.ndarray) -> np.ndarray:
    """Map a volume (H, W, D) to the probabilities of the classes (C, H, W, D)."""
    context, stage2 = open_part(folder, "context"), open_part(folder, "segment")
    constants = json.loads((folder / "export.json").read_text(encoding="utf-8"))["constants"]
    window, strides = constants["window_size"], constants["window_strides"]
    (h, w, d), patch_strides = constants["patch_size"], constants["patch_strides"]
    volume, inside = pad(volume, window)
    sums = counts = 0.0
    for x, y in product(*(starts(volume.shape[axis], window[axis], strides[axis]) for axis in (0, 1))):
        part = volume[None, None, x : x + window[0], y : y + window[1]]
        # At the volume's ends the outermost slices are their own neighbours.
        probabilities, maps = context.run(None, {"window": part, "before": part[..., :1], "after": part[..., -1:]})
        if not isinstance(sums, np.ndarray):
            sums = np.zeros((probabilities.shape[1], *volume.shape), np.float32)
            counts = np.zeros(volume.shape, np.float32)
        rows, columns = (starts(window[axis], (h, w)[axis], patch_strides[axis]) for axis in (0, 1))
        for z, row, column in product(starts(volume.shape[2], d, strides[2]), rows, columns):
            patch = part[:, :, row : row + h, column : column + w, z : z + d]
            given = {"patches": patch, "probabilities": probabilities, "maps": maps}
            (logits,) = stage2.run(None, given | {"starts": np.array([[row, column, z]])})
            exponentials = np.exp(logits[0] - logits[0].max(axis=0))
            place = (slice(x + row, x + row + h), slice(y + column, y + column + w), slice(z, z + d))
            sums[:, *place] += exponentials / exponentials.sum(axis=0)
            counts[place] += 1
    return (sums / counts)[:, *inside]


def main(folder: str, volume: str, output: str) -> None:
    """Segment the volume of a file."""
    np.save(output, segment(Path(folder), np.load(volume)))


if __name__ == "__main__":
    main(*sys.argv[1:])

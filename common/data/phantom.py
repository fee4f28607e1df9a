"""A lumbar spine MR phantom with labels: the data set on which networks can be trained where there is no other."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from common.data.label_scheme import LabelScheme
from common.data.made_data import make_once
from common.data.phantom_anatomy import paint_spine
from common.data.phantom_body import back_skin, paint_body
from common.data.phantom_canvas import Canvas
from common.data.phantom_geometry import Spine, draw_spine, spine_coordinates
from common.data.phantom_signal import CONTRASTS, TissueSignal, acquire, smooth_noise
from common.errors import InputError

__all__ = ["PHANTOM_VERSION", "SpinePhantom", "make_spine_phantom", "write_spine_phantoms"]

PHANTOM_VERSION = 1  # to be raised whenever the same seed gives other voxels
_SLIVER_ML = 0.35  # an annotator leaves out what the edge of the field of view cuts down to less than this
_FOLDS = 5


@dataclass(frozen=True)
class SpinePhantom:
    """One phantom scan.

    Attributes:
        image: float32 of shape (columns, rows, slices), integers from 0 to about 1500; the axes point to the patient's
            posterior, inferior and right (orientation code PIR).
        label: uint8 of the same shape, values 0..19 of the label scheme.
        affine: voxel to patient coordinates (right, anterior, superior), mm, float64 of shape (4, 4).
        contrast: ``T1`` or ``T2``.
        seed: what it was made from.
    """

    image: np.ndarray
    label: np.ndarray
    affine: np.ndarray
    contrast: str
    seed: int


def make_spine_phantom(
    seed: int, contrast: str | None = None, shape: tuple[int, int, int] | None = None
) -> SpinePhantom:
    """Make a phantom scan of a lumbar spine.

    The same arguments give the same voxels. One seed gives one person in both contrasts: the labels are the same.

    Args:
        seed: not negative.
        contrast: ``T1`` or ``T2``; None leaves it to the seed.
        shape: columns, rows and slices; None leaves them to the seed. The field of view stays, pixels change.

    Returns:
        The phantom.

    Raises:
        ValueError: an argument is out of range.
    """
    if seed < 0:
        raise ValueError(f"seed {seed} is negative")
    if contrast is not None and contrast not in CONTRASTS:
        raise ValueError(f"unknown contrast {contrast!r}; choose one of {', '.join(CONTRASTS)}")
    if shape is not None and (len(shape) != 3 or min(shape) < 8):
        raise ValueError(f"shape {shape} is not three sizes of 8 or more")
    for_shape, for_signal, for_view, for_choice = np.random.default_rng([20, seed]).spawn(4)
    chosen = CONTRASTS[int(for_choice.random() < 0.6)]
    contrast = contrast or chosen
    tissue = TissueSignal(contrast, for_signal)
    fatness = float(for_shape.beta(1.6, 2.4))
    tall_view = bool(for_view.random() < 0.2)  # some protocols reach up to T9
    spine = draw_spine(for_shape, scale=float(for_shape.uniform(0.86, 0.93)) if tall_view else None)
    across, up, ahead, spacing = _field_of_view(spine, for_view, shape, fatness, tall_view)

    size, pixel = (len(across), len(up), len(ahead)), float(np.sqrt(spacing[1] * spacing[2]))
    where = spine_coordinates(spine, across, up, ahead)
    canvas = Canvas(
        signal=np.zeros(size, np.float32),
        label=np.zeros(size, np.uint8),
        where=where,
        grain=smooth_noise(for_shape, size, spacing, (2.0, 0.9, 0.9)),
        cloud=smooth_noise(for_shape, size, spacing, (5.0, 4.5, 4.5)),
        streak=smooth_noise(for_shape, size, spacing, (3.0, 14.0, 1.3)),
        pixel=pixel,
    )
    back = paint_body(canvas, spine, tissue, for_shape, up, ahead, spacing, fatness)
    paint_spine(canvas, spine, tissue, for_shape)
    _tidy(canvas.label, float(np.prod(spacing)) / 1000)
    image = acquire(canvas.signal, back, spacing, for_signal)
    return SpinePhantom(
        np.ascontiguousarray(image.transpose(2, 1, 0)),
        np.ascontiguousarray(canvas.label.transpose(2, 1, 0)),
        _affine(across, up, ahead, spacing, for_view),
        contrast,
        int(seed),
    )


def _field_of_view(
    spine: Spine, rng: np.random.Generator, shape: tuple[int, int, int] | None, fatness: float, tall_view: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[float, float, float]]:
    """Return positions of slices (right), rows (superior, falling) and columns (anterior, falling), and spacing, mm."""
    view = rng.uniform(305.0, 320.0) if tall_view else rng.uniform(256.0, 315.0)
    pixel, gap, slices = rng.uniform(1.08, 1.25), rng.uniform(4.0, 4.4), int(rng.integers(15, 21))
    sacrum = rng.uniform(25.0, 45.0) if tall_view else rng.uniform(35.0, 105.0)
    margin, shift = rng.uniform(8.0, 32.0), rng.normal(0.0, 2.5)
    if shape is None:
        matrix = int(np.clip(8 * round(view / pixel / 8), 224, 288))
        shape = (matrix, matrix, slices)
    spacing = (gap, view / shape[1], view / shape[0])
    bottom = spine.at(0.0)[1] - sacrum
    bottom = min(bottom, spine.at(spine.bodies[8].top)[1] - 3 - view)  # never above T9
    up = bottom + view - spacing[1] * (np.arange(shape[1]) + 0.5)
    skin, _ = back_skin(spine, up, fatness)
    ahead = skin.min() - margin + view - spacing[2] * (np.arange(shape[0]) + 0.5)
    middle = float(np.interp(80.0, spine.height, spine.sway)) + shift
    across = middle + gap * (np.arange(shape[2]) - (shape[2] - 1) / 2)
    return across, up, ahead, spacing


def _affine(
    across: np.ndarray, up: np.ndarray, ahead: np.ndarray, spacing: tuple[float, float, float], rng: np.random.Generator
) -> np.ndarray:
    """Return the affine of a scan whose planes are turned by a few degrees, as technicians turn them to the spine."""
    tilt = np.deg2rad(rng.normal(0.0, (1.0, 2.5, 2.5)))
    (ca, cb, cc), (sa, sb, sc) = np.cos(tilt), np.sin(tilt)
    turn = np.array([[cc, -sc, 0], [sc, cc, 0], [0, 0, 1]]) @ np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    turn = turn @ np.array([[1, 0, 0], [0, ca, -sa], [0, sa, ca]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.array([[0, 0, spacing[0]], [-spacing[2], 0, 0], [0, -spacing[1], 0]])
    affine[:3, 3] = turn @ np.array([across[0], ahead[0], up[0]]) + rng.normal(0.0, (4.0, 20.0, 30.0))
    return affine


def _tidy(label: np.ndarray, voxel_ml: float) -> None:
    """Keep the largest piece of every structure, and no slivers at the edge of the field of view."""
    for value, box in enumerate(ndimage.find_objects(label), start=1):
        if box is None:
            continue
        pieces, count = ndimage.label(label[box] == value)
        sizes = np.bincount(pieces.ravel(), minlength=count + 1)
        sizes[0] = 0
        keep = int(sizes.argmax()) if sizes.max() * voxel_ml >= _SLIVER_ML else -1
        label[box][(pieces > 0) & (pieces != keep)] = 0


def write_spine_phantoms(
    folder: str | Path, count: int, seed: int = 0, report: Callable[[str], None] | None = None
) -> Path:
    """Write a data set of phantoms: ``images``, ``labels`` and, last, ``index.json``.

    The folder appears whole or not at all. A folder that holds the same data set already is left as it is.

    Args:
        folder: where to write it.
        count: number of phantoms, 1 or more.
        seed: another seed gives other phantoms.
        report: called with a line of text before each phantom.

    Returns:
        Path of ``index.json``.

    Raises:
        InputError: the folder holds something else or cannot be written, or count or seed is out of range.
    """
    folder = Path(folder)
    if count < 1:
        raise InputError("count", f"{count} is not a number of phantoms", "use 1 or more")
    if seed < 0:
        raise InputError("seed", f"{seed} is negative", "use 0 or more")
    generator = {"version": PHANTOM_VERSION, "seed": int(seed), "count": int(count)}
    return make_once(folder, generator, lambda empty: _write_cases(empty, generator, report))


def _write_cases(folder: Path, generator: dict[str, int], report: Callable[[str], None] | None) -> None:
    scheme = LabelScheme.load("mrspineseg19")
    count, seed, cases = generator["count"], generator["seed"], []
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for i in range(count):
        name = f"phantom_{i:03d}"
        if report is not None:
            report(f"{name} ({i + 1} of {count})")
        # Contrasts take turns, so that small data sets and every fold have both.
        phantom = make_spine_phantom(seed * 10_000 + i, contrast=("T2", "T1")[i % 2])
        _save(folder / "images" / f"{name}.nii.gz", phantom.image.astype(np.int16), phantom.affine)
        _save(folder / "labels" / f"{name}.nii.gz", phantom.label, phantom.affine)
        cases.append(
            {
                "id": name,
                "image": f"images/{name}.nii.gz",
                "label": f"labels/{name}.nii.gz",
                "labelled": list(scheme.values),
                "sequence": f"{phantom.contrast} phantom",
                "subject": name,
                "fold": i % _FOLDS,
            }
        )
    index = {
        "label_names": {str(s.value): s.name for s in sorted(scheme.structures, key=lambda s: s.value)},
        "cases": cases,
        "generator": generator,
    }
    (folder / "index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _save(path: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
    nifti = nib.Nifti1Image(voxels, affine)
    nifti.set_sform(affine, code=1)
    nifti.set_qform(affine, code=1)
    nifti.header.set_xyzt_units("mm")
    # No file name and no time in the gzip header: the same seed gives the same bytes.
    path.write_bytes(gzip.compress(nifti.to_bytes(), compresslevel=3, mtime=0))

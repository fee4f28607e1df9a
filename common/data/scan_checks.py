"""Whether a scan can be segmented."""

from __future__ import annotations

import os

import numpy as np

from common.data.scan_reader import known_format, open_nifti, read_scan
from common.errors import InputError

__all__ = ["MAX_SPACING", "MIN_SPACING", "check_scan"]

MIN_SPACING, MAX_SPACING = 0.01, 100.0  # mm


def check_scan(path: str | os.PathLike) -> None:
    """Read a scan as the loader will, and make sure that it can be segmented.

    Args:
        path: a path form of :class:`common.data.scan_reader.ScanReader`.

    Raises:
        InputError: missing, of an unknown format, not readable, damaged, not one 3D volume, fewer than 2 voxels along
            an axis, colours or complex numbers, no valid affine, a voxel smaller than ``MIN_SPACING`` or larger than
            ``MAX_SPACING``, a value that is not finite, or the same value everywhere; for DICOM also a missing,
            doubled or foreign slice, or no image at all.
    """
    if known_format(path) == "nifti":
        # MONAI's reader takes what is not a volume for something else, and one matrix for the other where it does not
        # agree with the spacing: the header tells first.
        image = open_nifti(path)
        _check_shape(path, image.shape)
        _check_numbers(path, image.get_data_dtype())
        _check_affine(path, image.affine)
    voxels, meta = read_scan(path)
    _check_shape(path, voxels.shape)
    _check_numbers(path, voxels.dtype)
    affine = np.asarray(meta["affine"], dtype=float)
    _check_affine(path, affine)
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    if spacing.min() < MIN_SPACING or spacing.max() > MAX_SPACING:
        size = " x ".join(f"{value:.3g}" for value in spacing)
        raise InputError(
            path, f"has voxels of {size} mm, which no scan of a spine has", "re-export it with its spacing in mm"
        )
    if not np.isfinite(voxels).all():
        raise InputError(path, "has voxels that are NaN or infinite", "re-export the scan")
    if voxels.min() == voxels.max():
        raise InputError(path, "has the same value in every voxel", "pass a scan with a picture in it")


def _check_shape(path: str | os.PathLike, shape: tuple[int, ...]) -> None:
    if len(shape) != 3 or min(shape) < 2:
        size = " x ".join(map(str, shape))
        raise InputError(path, f"is not one 3D volume (its size is {size})", "pass a single volume")


def _check_affine(path: str | os.PathLike, affine: np.ndarray) -> None:
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise InputError(path, "has no valid position in space (its affine cannot be inverted)", "re-export the scan")


def _check_numbers(path: str | os.PathLike, dtype: np.dtype) -> None:
    if dtype.kind not in "biuf":
        raise InputError(path, f"holds no plain numbers (its type is {dtype})", "pass a grey-level scan")

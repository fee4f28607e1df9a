"""What every volume must be, whatever file it came from."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from common.errors import InputError

__all__ = ["MAX_SPACING", "MIN_SLICES", "MIN_SPACING", "check_grid", "check_numbers", "check_picture", "voxel_sizes"]

MIN_SPACING, MAX_SPACING = 0.01, 100.0  # mm
MIN_SLICES = 3  # along each axis: a spine cannot be told in fewer


def check_grid(path: str | os.PathLike, shape: Sequence[int], affine: np.ndarray) -> None:
    """Make sure that a grid is one that a spine can be seen on.

    Args:
        path: the scan, for the message.
        shape: its size in voxels.
        affine: 4x4, voxel to world, mm.

    Raises:
        InputError: not three axes, fewer than ``MIN_SLICES`` voxels along one, an affine that cannot be inverted, or
            voxels smaller than ``MIN_SPACING`` or larger than ``MAX_SPACING``.
    """
    size = " x ".join(map(str, shape))
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(path, f"is not one 3D volume (its size is {size})", "pass a single volume")
    if min(shape) < MIN_SLICES:
        count = "1 slice" if min(shape) == 1 else f"{min(shape)} slices"
        raise InputError(path, f"has {count} (its size is {size})", f"pass a volume of {MIN_SLICES} slices or more")
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise InputError(path, "has no valid position in space (its affine cannot be inverted)", "re-export the scan")
    spacing = voxel_sizes(affine)
    if spacing.min() < MIN_SPACING or spacing.max() > MAX_SPACING:
        size = " x ".join(f"{value:.3g}" for value in spacing)
        raise InputError(
            path, f"has voxels of {size} mm, which no scan of a spine has", "re-export it with its spacing in mm"
        )


def check_numbers(path: str | os.PathLike, dtype: np.dtype) -> None:
    """Refuse colours and complex numbers.

    Raises:
        InputError: the type is neither whole nor real numbers.
    """
    if dtype.kind not in "biuf":
        raise InputError(path, f"holds no plain numbers (its type is {dtype})", "pass a grey-level scan")


def check_picture(path: str | os.PathLike, voxels: np.ndarray) -> None:
    """Make sure that there is a picture in a scan.

    Raises:
        InputError: a value is not finite, or all are the same.
    """
    if not np.isfinite(voxels).all():
        raise InputError(path, "has voxels that are NaN or infinite", "re-export the scan")
    if voxels.min() == voxels.max():
        raise InputError(path, "has the same value in every voxel", "pass a scan with a picture in it")


def voxel_sizes(affine: np.ndarray) -> np.ndarray:
    """Return the edges of a voxel, in mm, from a 4x4 affine."""
    return np.sqrt((affine[:3, :3] ** 2).sum(axis=0))

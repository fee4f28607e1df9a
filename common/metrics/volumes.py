"""How large each structure of a label map is."""

from __future__ import annotations

from typing import Any

import numpy as np

from common.data.label_scheme import LabelScheme

__all__ = ["structure_volumes", "voxel_counts", "voxel_volume"]

# np.bincount makes 8-byte integers of what it counts; pieces keep that small beside a large scan.
_PIECE = 1 << 22


def voxel_counts(labels: np.ndarray, scheme: LabelScheme) -> np.ndarray:
    """Count the voxels of each written value.

    Args:
        labels: integer array of written values, of any shape.
        scheme: gives the values that may occur: 0 and ``scheme.values``.

    Returns:
        Counts of shape (20,), int64; the index is the written value.

    Raises:
        ValueError: the labels are not of an integer type, or hold values outside of 0..19.
    """
    labels = np.asarray(labels)
    highest = max(scheme.values)
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels are of type {labels.dtype}; they must be integers from 0 to {highest}")
    if labels.size and (labels.min() < 0 or labels.max() > highest):
        raise ValueError(f"labels hold {labels.min()}..{labels.max()}; they must lie between 0 and {highest}")
    flat = labels.ravel(order="K")
    counts = np.zeros(highest + 1, dtype=np.int64)
    for start in range(0, flat.size, _PIECE):
        counts += np.bincount(flat[start : start + _PIECE].astype(np.intp), minlength=highest + 1)
    return counts


def voxel_volume(affine_or_voxel_volume: np.ndarray | float) -> float:
    """Return the volume of one voxel in cubic millimetres.

    Args:
        affine_or_voxel_volume: affine from voxels to millimetres, shape (4, 4) or (3, 3), sheared or not; or the
            volume itself.

    Raises:
        ValueError: neither such an affine nor a number, or the volume is not positive and finite.
    """
    given = np.asarray(affine_or_voxel_volume, dtype=np.float64)
    if given.ndim and given.shape not in ((4, 4), (3, 3)):
        raise ValueError(f"an affine has the shape (4, 4) or (3, 3), not {given.shape}")
    if not np.isfinite(given).all():
        raise ValueError("the affine or volume of a voxel is not finite")
    volume = abs(float(np.linalg.det(given[:3, :3]))) if given.ndim else float(given)
    if not 0 < volume < np.inf:
        raise ValueError(f"the volume of a voxel must be positive and finite, not {volume}")
    return volume


def structure_volumes(
    labels: np.ndarray, affine_or_voxel_volume: np.ndarray | float, scheme: LabelScheme
) -> list[dict[str, Any]]:
    """Measure every structure that the scheme's network knows.

    Args:
        labels: integer array of written values 0..19, of any shape.
        affine_or_voxel_volume: affine from voxels to millimetres, shape (4, 4) or (3, 3); or a voxel's volume in
            cubic millimetres.
        scheme: gives the structures.

    Returns:
        One row per structure, in the order of ``scheme.structures``, absent ones included: ``value`` (int, as
        written), ``name``, ``description``, ``voxels`` (int) and ``volume_ml`` (float, millilitres).

    Raises:
        ValueError: the labels are not integers from 0 to 19, or a voxel's volume is not positive and finite.
    """
    counts = voxel_counts(labels, scheme)
    millilitres = voxel_volume(affine_or_voxel_volume) / 1000
    return [
        {
            "value": structure.value,
            "name": structure.name,
            "description": structure.description,
            "voxels": int(counts[structure.value]),
            "volume_ml": int(counts[structure.value]) * millilitres,
        }
        for structure in scheme.structures
    ]

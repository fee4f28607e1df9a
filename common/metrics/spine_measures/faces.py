"""Faces of vertebral bodies, fitted to the edges between voxels inside and outside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from common.metrics.spine_measures.frames import Frame
from common.metrics.spine_measures.regions import Region

__all__ = ["Line", "find_edges", "fit_face"]

Line = Callable[[np.ndarray], np.ndarray]

_HALF_BAND = 4.0  # mm: slices within so much on both sides of the section count
_NEAR = 6.0  # mm: what is farther from the first guess of a face is no part of it
_ACROSS = 0.7  # of the way between two voxels: what of it must lead across the face, so that one axis does so
_LEFT_OUT = 0.08  # of a face's length at both of its ends, where corners are round
_STEPS = 0.33  # of a voxel: how far edges lie from a face on average (RMS) as they are steps; evenly spread, it is 0.29
_OUTLIER = 3.0  # times the usual distance, and voxels: what is farther from a face is no part of it


def find_edges(region: Region, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Find where the sagittal slices near a frame's sagittal plane have an edge between voxels inside and outside.

    Args:
        region: a vertebra or disc.
        frame: its frame.

    Returns:
        The middle between the two voxels' centres, (across, front, up) in the frame, mm, shape (n, 3); and the way from
        the voxel inside to the one outside, likewise.
    """
    mask, grid = region.mask > 0, region.grid
    axes = np.stack([frame.lateral, frame.front, frame.up])
    middles, ways = [], []
    for axis in {0, 1, 2} - {grid.lateral_axis}:
        step = np.eye(3)[axis]
        first = np.argwhere(np.diff(mask, axis=axis))
        middles.append((grid.to_world(first + step / 2 + region.start) - frame.origin) @ axes.T)
        towards = np.where(mask[tuple(first.T)], 1, -1)
        ways.append(towards[:, None] * (axes @ grid.affine[:3, axis]))
    middle, way = np.concatenate(middles), np.concatenate(ways)
    near = np.abs(middle[:, 0]) <= max(_HALF_BAND, 0.5 * grid.slice_distance)
    return middle[near], way[near]


def fit_face(edges: tuple[np.ndarray, np.ndarray], guess: Line, side: str, low: float, high: float) -> Line | None:
    """Fit a straight face to its edges between two corners, by least squares.

    The edges between voxels lie on both sides of a smooth face, half a voxel away at most. So the face is taken for
    straight where that explains how far the edges lie from a line.

    Args:
        edges: as :func:`find_edges` returns them.
        guess: about where the face is.
        side: ``upper``, ``lower``, ``front`` or ``back``.
        low: where the face begins, mm along it.
        high: where it ends.

    Returns:
        The face in the frame's sagittal plane; None where it has too few edges, or is not straight.
    """
    middle, way = edges
    along, out = (1, 2) if side in ("upper", "lower") else (2, 1)
    outward = way[:, out] * (1 if side in ("upper", "front") else -1)
    left_out = _LEFT_OUT * (high - low)
    kept = outward >= _ACROSS * np.linalg.norm(way, axis=1)
    kept &= (middle[:, along] >= low + left_out) & (middle[:, along] <= high - left_out)
    kept &= np.abs(middle[:, out] - guess(middle[:, along])) <= _NEAR
    points, steps = middle[kept], outward[kept]
    if len(points) < 12:
        return None
    centre, half = (low + high) / 2, (high - low) / 2
    t = (points[:, along] - centre) / half
    aside = points[:, :1] if np.ptp(points[:, 0]) > 1 else points[:, :0]  # no slope to the side from a single slice
    found, away = _least_squares(np.column_stack([np.ones_like(t), t, aside]), points[:, out], steps)
    if away > _STEPS:
        return None
    return lambda position: found[0] + found[1] * (position - centre) / half


def _least_squares(terms: np.ndarray, values: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the coefficients without outliers' part, and how far all edges lie from the face (RMS), in voxels."""
    kept = np.ones(len(values), dtype=bool)
    for _ in range(3):
        found = np.linalg.lstsq(terms[kept], values[kept], rcond=None)[0]
        away = np.abs(values - terms @ found) / steps
        kept = away <= max(_OUTLIER * 1.48 * float(np.median(away)), _OUTLIER)
    return found, float(np.sqrt(np.mean(away**2)))

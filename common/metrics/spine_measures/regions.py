"""Where each structure of a label map lies in the patient, and whether the scan shows all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from scipy import ndimage

from common.metrics.spine_measures.frames import Frame, unit

__all__ = ["Grid", "Region", "find_regions"]

_SIDES = {"L": "right", "R": "left", "P": "front", "A": "back", "I": "upper", "S": "lower"}  # where an axis starts
_OPPOSITE = {"R": "L", "L": "R", "A": "P", "P": "A", "S": "I", "I": "S"}


class Grid:
    """A label map's grid in patient space.

    Args:
        shape: (X, Y, Z).
        affine: from voxels to millimetres in RAS world space, shape (4, 4).

    Attributes:
        lateral_axis: the array's axis that runs most nearly from left to right.
        lateral: unit normal of the sagittal slices, pointing to the patient's right.
        cranial: unit vector of the axis that runs most nearly from foot to head.
        pixel: the larger edge of a voxel within the sagittal slices, mm.
        slice_distance: between sagittal slices, mm.
    """

    def __init__(self, shape: tuple[int, ...], affine: np.ndarray) -> None:
        self.shape, self.affine = tuple(shape), np.asarray(affine, dtype=np.float64)
        self._to_voxel = np.linalg.inv(self.affine)
        nearest = nib.orientations.io_orientation(self.affine)[:, 0].astype(int).tolist()
        self.lateral_axis = nearest.index(0)
        columns = self.affine[:3, :3].T
        across, within = columns[self.lateral_axis], [columns[nearest.index(axis)] for axis in (1, 2)]
        normal = unit(np.cross(*within))
        self.lateral = normal * np.sign(normal[0])
        self.cranial = unit(within[1]) * np.sign(within[1][2])
        self.pixel = float(max(np.linalg.norm(column) for column in within))
        self.slice_distance = float(abs(across @ normal))

    def to_voxels(self, points: np.ndarray) -> np.ndarray:
        """Return the voxel coordinates of world points, both of shape (..., 3)."""
        return points @ self._to_voxel[:3, :3].T + self._to_voxel[:3, 3]

    def to_world(self, voxels: np.ndarray) -> np.ndarray:
        """Return the world points of voxel coordinates, both of shape (..., 3)."""
        return voxels @ self.affine[:3, :3].T + self.affine[:3, 3]

    def edges_of(self, low: np.ndarray, high: np.ndarray) -> list[tuple[int, str]]:
        """Return the edges of the grid that a range of voxels reaches, each with its axis and its name.

        Args:
            low: the first voxel along each axis, shape (3,).
            high: the last one.
        """
        codes, found = nib.aff2axcodes(self.affine), []
        for axis, code in enumerate(codes):
            if low[axis] <= 0:
                found.append((axis, _SIDES[code]))
            if high[axis] >= self.shape[axis] - 1:
                found.append((axis, _SIDES[_OPPOSITE[code]]))
        return found


@dataclass(frozen=True)
class Region:
    """One structure of a label map: its largest connected piece.

    Attributes:
        grid: what it lies on.
        mask: its piece of the grid with a margin of one voxel of background, float32.
        start: the voxel of the grid that the mask's first one is, shape (3,).
        centroid: world coordinates, mm, shape (3,).
        width: how far it reaches from side to side, mm.
        edges: the names of the edges of the scan that cut it.
        cut_aside: whether one of them is the left or the right one.
    """

    grid: Grid
    mask: np.ndarray
    start: np.ndarray
    centroid: np.ndarray
    width: float
    edges: tuple[str, ...]
    cut_aside: bool

    def sample(self, frame: Frame, across: np.ndarray, front: np.ndarray, up: np.ndarray) -> np.ndarray:
        """Return how much of the structure there is at points of a frame: its mask, interpolated linearly.

        Args:
            frame: the frame.
            across: evenly spaced positions towards the patient's right, mm, shape (n,).
            front: likewise towards the front, shape (m,).
            up: likewise upwards, shape (k,).

        Returns:
            Values in 0..1, shape (n, k, m).
        """
        positions = (across, up, front)
        axes = np.stack([frame.lateral, frame.up, frame.front])
        first = frame.origin + np.array([values[0] for values in positions]) @ axes
        start = self.grid.to_voxels(first)
        steps = [values[1] - values[0] for values in positions]
        ends = self.grid.to_voxels(first + axes * np.array(steps)[:, None])
        return ndimage.affine_transform(
            self.mask, (ends - start).T, start - self.start, [len(values) for values in positions], order=1
        )


def find_regions(labels: np.ndarray, grid: Grid) -> Mapping[int, Region]:
    """Find every structure of a label map.

    Args:
        labels: integer array of written values, shape (X, Y, Z).
        grid: its grid.

    Returns:
        Regions by value.
    """
    regions = {}
    for value, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        pieces, count = ndimage.label(labels[box] == value, structure=np.ones((3, 3, 3)))
        if count > 1:
            pieces = pieces == 1 + np.bincount(pieces.ravel())[1:].argmax()
        inside = pieces > 0
        voxels = np.argwhere(inside) + [part.start for part in box]
        low, high = voxels.min(axis=0), voxels.max(axis=0)
        own = tuple(slice(a - part.start, b - part.start + 1) for a, b, part in zip(low, high, box, strict=True))
        cut = grid.edges_of(low, high)
        side = voxels @ (grid.affine[:3, :3].T @ grid.lateral)
        regions[value] = Region(
            grid,
            np.pad(inside[own].astype(np.float32), 1),
            low - 1,
            grid.to_world(voxels.mean(axis=0)),
            float(side.max() - side.min()) + grid.slice_distance,
            tuple(name for _, name in cut),
            any(axis == grid.lateral_axis for axis, _ in cut),
        )
    return regions

"""Vertebral bodies with flat end plates, of any tilt and size, whose measures are known because they are built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tests.common.metrics.spine_measures.spines import direction

_HALF_WIDTH = 23.0  # mm


@dataclass(frozen=True)
class Body:
    """A vertebral body as wide as a box, with a quadrangle as its mid-sagittal section.

    Attributes:
        corners: upper back, upper front, lower front, lower back, (front, up) in its own sagittal plane, mm.
        centre: of the body, RAS world coordinates, mm.
        tilt: by which it is turned from front to up, degrees.
    """

    corners: np.ndarray
    centre: np.ndarray
    tilt: float

    @property
    def heights(self) -> np.ndarray:
        """Front, middle and back height, mm."""
        upper_back, upper_front, lower_front, lower_back = self.corners
        front, back = upper_front - lower_front, upper_back - lower_back
        return np.linalg.norm([front, (front + back) / 2, back], axis=1)

    @property
    def depth(self) -> float:
        """Mean depth of both end plates, mm."""
        upper_back, upper_front, lower_front, lower_back = self.corners
        return float(np.linalg.norm(upper_front - upper_back) + np.linalg.norm(lower_front - lower_back)) / 2

    @property
    def tilts(self) -> np.ndarray:
        """By how much each end plate runs off the horizontal, degrees."""
        plates = self.corners[[1, 2]] - self.corners[[0, 3]]
        return np.abs(np.degrees(np.arctan2(plates[:, 1], plates[:, 0])) + self.tilt)

    @property
    def axes(self) -> np.ndarray:
        """To its front and its head in RAS world coordinates, as rows."""
        front, up = direction(self.tilt), direction(self.tilt + 90)
        return np.array([[0, *front], [0, *up]])

    def inside(self, points: np.ndarray) -> np.ndarray:
        """Return which points of RAS world coordinates, mm, shape (..., 3), lie in it."""
        front_up = (points - self.centre) @ self.axes.T
        within = np.abs(points[..., 0] - self.centre[0]) <= _HALF_WIDTH
        for start, end in zip(self.corners, np.roll(self.corners, -1, axis=0), strict=True):
            along, to = end - start, front_up - start
            within &= along[0] * to[..., 1] - along[1] * to[..., 0] <= 0  # the corners go clockwise
        return within


def box(depth: float, front: float, back: float, wedge: float) -> np.ndarray:
    """Return the corners of a body, mm.

    Args:
        depth: of both end plates.
        front: height of the front wall, about.
        back: height of the back wall.
        wedge: part of the difference of both heights that the upper end plate has, -0.5 (none) to 0.5 (all).
    """
    rise = front - back
    angles = np.degrees(np.arcsin([rise * (0.5 + wedge) / depth, -rise * (0.5 - wedge) / depth]))
    upper_back, lower_back = np.array([-depth / 2, back / 2]), np.array([-depth / 2, -back / 2])
    return np.array(
        [upper_back, upper_back + depth * direction(angles[0]), lower_back + depth * direction(angles[1]), lower_back]
    )


def draw(body: Body, value: int, spacing: Sequence[float], majority: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Draw a body into a label map that just holds it.

    Args:
        body: the body.
        value: its label.
        spacing: of the voxels from side to side, front to back and upwards, mm.
        majority: a voxel belongs to the body where most of its area in the sagittal plane does, as annotators aim at;
            else where its centre does.

    Returns:
        The label map (X, Y, Z), and its affine.
    """
    steps = np.array(spacing)
    aside = np.array([_HALF_WIDTH, 0, 0])
    ends = np.concatenate([body.centre + body.corners @ body.axes + side * aside for side in (-1, 1)])
    low = np.floor((ends.min(axis=0) - 4) / steps) - 1
    shape = (np.ceil((ends.max(axis=0) + 4) / steps) + 1 - low).astype(int)
    affine = np.diag([*steps, 1.0])
    affine[:3, 3] = low * steps
    centres = np.moveaxis(np.indices(shape), 0, -1) * steps + affine[:3, 3]
    parts = (np.arange(4) - 1.5) / 4 if majority else np.zeros(1)
    share = np.mean([body.inside(centres + np.array([0, a, b]) * steps) for a in parts for b in parts], axis=0)
    return np.where(share >= 0.5, value, 0).astype(np.uint8), affine

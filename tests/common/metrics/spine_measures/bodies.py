"""Vertebral bodies of any tilt, size and hollowness, whose measures are known because they are built from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from common.data.label_scheme import LabelScheme
from tests.common.metrics.spine_measures.spines import direction

SCHEME = LabelScheme.load("mrspineseg19")
_RIM = 0.12  # of an end plate's depth at both ends: the flat rim of a hollow of the kind "rim"


@dataclass(frozen=True)
class Body:
    """A vertebral body that is as wide as a box and has a mid-sagittal section of its own.

    Attributes:
        corners: upper back, upper front, lower front, lower back, (front, up) in its own sagittal plane, mm.
        hollow: how deep the upper and the lower end plate are, mm.
        shape: "arc": the hollow is a parabola from corner to corner; "rim": a cosine between two flat rims.
        apex: where from back to front (0..1) the hollow is deepest.
        centre: of the body, RAS world coordinates, mm.
        turns: about its own axis upwards, its axis to the front, and its axis to the side, radians: axial rotation,
            lean to the side, tilt (positive from front to up). The last one comes first.
        half_width: mm.
    """

    corners: np.ndarray
    hollow: tuple[float, float] = (0.0, 0.0)
    shape: str = "arc"
    apex: float = 0.5
    centre: np.ndarray = field(default_factory=lambda: np.zeros(3))
    turns: tuple[float, float, float] = (0.0, 0.0, 0.0)
    half_width: float = 23.0

    @property
    def axes(self) -> np.ndarray:
        """Its axes to the right, front and head as rows, shape (3, 3)."""
        rotation, lean, tilt = self.turns
        about_up = _turn(0, 1, rotation)
        about_front = _turn(2, 0, lean)
        about_side = _turn(1, 2, tilt)
        return (about_up @ about_front @ about_side).T

    def plate(self, upper: bool, part: np.ndarray) -> np.ndarray:
        """Return points of an end plate in its own plane, shape (n, 2).

        Args:
            upper: whether it is the upper one.
            part: where from the back corner (0) to the front one (1), shape (n,).
        """
        back, front = (self.corners[0], self.corners[1]) if upper else (self.corners[3], self.corners[2])
        chord = (front - back) / np.linalg.norm(front - back)
        inward = np.array([chord[1], -chord[0]]) * (1 if upper else -1)
        # The deepest point is moved along the plate by a parabola, which leaves both ends where they are.
        moved = part + (0.5 - self.apex) / (self.apex * (1 - self.apex)) * part * (1 - part)
        if self.shape == "arc":
            depth = 4 * moved * (1 - moved)
        else:
            within = np.clip((moved - _RIM) / (1 - 2 * _RIM), 0, 1)
            depth = (1 - np.cos(2 * np.pi * within)) / 2
        return back + part[:, None] * (front - back) + (self.hollow[0 if upper else 1] * depth)[:, None] * inward

    @property
    def heights(self) -> list[float]:
        """Front, middle and back height, mm."""
        upper, lower = (self.plate(side, np.array([1, 0.5, 0])) for side in (True, False))
        return [float(height) for height in np.linalg.norm(upper - lower, axis=1)]

    @property
    def depth(self) -> float:
        """Mean depth of both end plates, mm."""
        upper_back, upper_front, lower_front, lower_back = self.corners
        return float(np.linalg.norm(upper_front - upper_back) + np.linalg.norm(lower_front - lower_back)) / 2

    def world(self, front_up: np.ndarray) -> np.ndarray:
        """Return world coordinates of points in its sagittal plane, shape (..., 3)."""
        return self.centre + front_up @ self.axes[1:]


def _turn(first: int, second: int, angle: float) -> np.ndarray:
    """Return the rotation from one axis towards another."""
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[second, first], matrix[first, second] = np.sin(angle), -np.sin(angle)
    return matrix


def box(depth: float, front: float, back: float, wedge: float = 0.0, shear: float = 0.0) -> np.ndarray:
    """Return the corners of a body, mm.

    Args:
        depth: of both end plates.
        front: height of the front wall, about (exact where nothing is sheared).
        back: height of the back wall.
        wedge: part of the difference of both heights that the upper end plate has, -0.5 (none) to 0.5 (all).
        shear: how far the upper end plate lies in front of the lower one.
    """
    up, down = back / 2, -back / 2
    rise = front - back
    angles = [np.arcsin(rise * (0.5 + wedge) / depth), np.arcsin(-rise * (0.5 - wedge) / depth)]
    upper_back, lower_back = np.array([-depth / 2 + shear, up]), np.array([-depth / 2, down])
    ends = [
        start + depth * direction(np.degrees(angle))
        for start, angle in zip((upper_back, lower_back), angles, strict=True)
    ]
    return np.array([upper_back, ends[0], ends[1], lower_back])


def draw(bodies: dict[str, Body], spacing: Sequence[float], majority: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Draw bodies into a label map that just holds them.

    Args:
        bodies: by the structure's name.
        spacing: of the voxels from side to side, front to back and upwards, mm.
        majority: a voxel belongs to a body where most of its area in the sagittal plane does, as annotators aim at;
            else where its centre does.

    Returns:
        The label map (X, Y, Z), and its affine.
    """
    steps = np.array(spacing)
    ends = np.concatenate(
        [
            body.world(body.corners) + side * body.half_width * body.axes[0]
            for body in bodies.values()
            for side in (-1, 1)
        ]
    )
    low = np.floor((ends.min(axis=0) - 4) / steps) - 1
    shape = (np.ceil((ends.max(axis=0) + 4) / steps) + 1 - low).astype(int)
    affine = np.diag([*steps, 1.0])
    affine[:3, 3] = low * steps
    values = {structure.name: structure.value for structure in SCHEME.all_structures}
    labels = np.zeros(shape, np.uint8)
    centres = np.moveaxis(np.indices(shape), 0, -1) * steps + affine[:3, 3]
    parts = (np.arange(4) - 1.5) / 4 if majority else np.zeros(1)
    for name, body in bodies.items():
        share = np.mean([_inside(body, centres + np.array([0, a, b]) * steps) for a in parts for b in parts], axis=0)
        labels[share >= 0.5] = values[name]
    return labels, affine


def _inside(body: Body, points: np.ndarray) -> np.ndarray:
    """Return which points lie in a body, whose end plates are drawn as lines of 400 pieces."""
    side, front, up = np.moveaxis((points - body.centre) @ body.axes.T, -1, 0)
    part = np.linspace(0, 1, 400)
    upper_back, upper_front, lower_front, lower_back = body.corners
    top, bottom = body.plate(True, part), body.plate(False, part)
    inside = np.abs(side) <= body.half_width
    inside &= up <= _beyond(front, top)
    inside &= up >= _beyond(front, bottom)
    inside &= front >= np.interp(up, [lower_back[1], upper_back[1]], [lower_back[0], upper_back[0]])
    return inside & (front <= np.interp(up, [lower_front[1], upper_front[1]], [lower_front[0], upper_front[0]]))


def _beyond(front: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Return how high an end plate is, which goes on straight beyond its ends."""
    ends = [
        line[0] + 9 * (line[0] - line[1]) / np.linalg.norm(line[0] - line[1]),
        line[-1] + 9 * (line[-1] - line[-2]) / np.linalg.norm(line[-1] - line[-2]),
    ]
    whole = np.vstack([ends[0], line, ends[1]])
    return np.interp(front, whole[:, 0], whole[:, 1])

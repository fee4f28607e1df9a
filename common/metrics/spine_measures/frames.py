"""A vertebra's or disc's own axes in the patient."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

__all__ = ["Frame", "unit"]


def unit(vector: np.ndarray) -> np.ndarray:
    """Return a vector of the same direction and length 1."""
    return vector / np.linalg.norm(vector)


@dataclass(frozen=True)
class Frame:
    """Three axes at right angles, in RAS world space.

    Attributes:
        origin: mm, shape (3,).
        lateral: unit vector towards the patient's right.
        front: unit vector towards the front.
        up: unit vector towards the head.
    """

    origin: np.ndarray
    lateral: np.ndarray
    front: np.ndarray
    up: np.ndarray

    @classmethod
    def along(cls, origin: np.ndarray, up: np.ndarray, lateral: np.ndarray) -> Frame:
        """Return the frame whose upward axis is given, and whose lateral axis is as near to the given one as can be."""
        up = unit(up)
        lateral = unit(lateral - (lateral @ up) * up)
        return cls(origin, lateral, np.cross(up, lateral), up)

    def turned(self, angle: float, front: float, up: float, across: float = 0.0) -> Frame:
        """Return the frame turned in its sagittal plane, with its origin moved.

        Args:
            angle: radians, positive from front to up.
            front: where the new origin lies in this frame, mm.
            up: likewise, upwards.
            across: likewise, towards the right.
        """
        origin = self.point(front, up) + across * self.lateral
        cosine, sine = np.cos(angle), np.sin(angle)
        return replace(
            self, origin=origin, front=cosine * self.front + sine * self.up, up=cosine * self.up - sine * self.front
        )

    def point(self, front: float, up: float) -> np.ndarray:
        """Return the world coordinates of a point in the frame's sagittal plane."""
        return self.origin + front * self.front + up * self.up

    def grid_points(self, across: np.ndarray, front: np.ndarray, up: np.ndarray) -> np.ndarray:
        """Return world coordinates of all combinations of positions, shape (across, up, front, 3)."""
        sides = across[:, None, None, None] * self.lateral
        return self.origin + sides + up[None, :, None, None] * self.up + front[None, None, :, None] * self.front

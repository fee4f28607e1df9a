"""What the phantom is painted on, and the shapes that it is painted with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.data.phantom_geometry import SpineCoordinates

__all__ = ["Canvas", "Window", "ellipse", "rounded"]


@dataclass(frozen=True)
class Window:
    """A box of voxels and its coordinates along the spine, mm: the parts are painted in boxes, to save time.

    Attributes:
        box: rows and columns of the box, all slices.
        along: height along the spine.
        front: distance in front of the posterior wall.
        side: distance to the right of the middle.
    """

    box: tuple[slice, slice, slice]
    along: np.ndarray
    front: np.ndarray
    side: np.ndarray


@dataclass
class Canvas:
    """Signal and labels being painted.

    Attributes:
        signal: ideal signal, float32 of shape (slices, rows, columns).
        label: label values, uint8 of the same shape.
        where: coordinates along the spine, mm.
        grain: noise of unit variance, about 1 mm fine, of the same shape.
        cloud: noise of unit variance, about 5 mm fine, of the same shape.
        streak: noise of unit variance in streaks along the spine, of the same shape.
        pixel: size of a pixel in the plane, mm.
    """

    signal: np.ndarray
    label: np.ndarray
    where: SpineCoordinates
    grain: np.ndarray
    cloud: np.ndarray
    streak: np.ndarray
    pixel: float

    def window(self, low: float, high: float, back: float, front: float) -> Window | None:
        """Return the box that holds all voxels between two heights and two depths; None where there are none."""
        middle = self.where.along.shape[0] // 2
        along, ahead = self.where.along[middle], self.where.front[middle]
        inside = (along > low - 8) & (along < high + 8) & (ahead > back - 5) & (ahead < front + 5)
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        if not len(rows):
            return None
        box = (slice(None), slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        return Window(box, self.where.along[box], self.where.front[box], self.where.side[box])

    def paint(self, box: tuple, distance: np.ndarray, value: np.ndarray | float, opacity: float = 1.0) -> None:
        """Paint what lies inside a surface; pixels that the surface cuts are mixed.

        Args:
            box: where to paint.
            distance: distance from the surface, mm, negative inside, of the box's shape.
            value: signal of what is painted.
            opacity: 1 covers what was there.
        """
        part = np.clip(0.5 - distance / self.pixel, 0, 1) * np.float32(opacity)
        target = self.signal[box]
        target += part * (value - target)

    def mark(self, box: tuple, distance: np.ndarray, value: int) -> None:
        """Label the voxels whose middle lies inside a surface."""
        self.label[box][distance < 0] = value


def ellipse(*axes: tuple[np.ndarray, float]) -> np.ndarray:
    """Return roughly the distance from an ellipse.

    Args:
        axes: for each axis the offset from the ellipse's middle, mm, and the ellipse's radius, mm.

    Returns:
        Distance, mm, negative inside; exact only on the surface, which is where it matters.
    """
    radius = np.sqrt(sum(np.square(offset / size) for offset, size in axes))
    return (radius - 1) * np.float32(min(size for _, size in axes))


def rounded(a: np.ndarray, b: np.ndarray, radius: float) -> np.ndarray:
    """Return the distance from what two shapes have in common, with its edge rounded.

    Args:
        a: distance from the first shape, mm, negative inside.
        b: distance from the second shape.
        radius: radius of the edge, mm.
    """
    a, b = a + radius, b + radius
    return np.minimum(np.maximum(a, b), 0) + np.hypot(np.maximum(a, 0), np.maximum(b, 0)) - np.float32(radius)

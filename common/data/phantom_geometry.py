"""Shape of a phantom's spine: sizes of its parts, its curves, and coordinates that follow it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

__all__ = ["Part", "Spine", "SpineCoordinates", "draw_spine", "spine_coordinates"]

# From L5 up: posterior height, depth and width of bodies and height of the disc
# below them at its rim (end plates are hollow, so its middle is 2 to 5 mm thicker), mm. T8 carries no label:
# it is there only so that nothing ends in the void at the upper edge of the field of view.
_VALUES = (2, 3, 4, 5, 6, 7, 8, 9, 10, 0)
_BODY_HEIGHT = (26.5, 27.5, 28.0, 27.5, 26.5, 25.0, 23.5, 22.5, 21.5, 21.0)
_BODY_DEPTH = (35.0, 35.0, 34.5, 34.0, 33.0, 32.0, 31.5, 30.5, 30.0, 29.0)
_BODY_WIDTH = (48.0, 46.5, 45.0, 43.0, 41.0, 39.5, 38.0, 36.0, 35.0, 34.0)
_DISC_VALUES = (11, 12, 13, 14, 15, 16, 17, 18, 19, 0)
_DISC_HEIGHT = (8.0, 9.0, 8.6, 8.0, 7.2, 6.2, 5.6, 5.2, 5.0, 5.0)
# From S1 down to the coccyx.
_SACRAL_HEIGHT = (29.0, 24.0, 20.0, 17.0, 15.0, 22.0)
_SACRAL_DEPTH = (33.0, 25.0, 18.0, 14.0, 11.0, 9.0)
_SACRAL_WIDTH = (52.0, 44.0, 38.0, 34.0, 28.0, 16.0)
# Inclination of each part against that of S1, degrees, positive where the spine leans forward going up.
_LEAN = (-21.0, -34.0, -42.0, -48.0, -52.0, -53.0, -51.0, -47.0, -42.0, -37.0)
_SACRAL_LEAN = (0.0, 8.0, 9.0, -8.0, -32.0, -62.0)


@dataclass(frozen=True)
class Part:
    """A vertebral body, a disc or a segment of the sacrum.

    Attributes:
        value: its label value; 0 for one that carries none.
        bottom: height of its lower face along the spine's posterior wall, mm above the top of S1.
        top: height of its upper face.
        depth: front to back, mm.
        half_width: half of its left-right width, mm.
        wear: 0 for a healthy disc to 1 for one that has lost all its water; 0 for bone.
    """

    value: int
    bottom: float
    top: float
    depth: float
    half_width: float
    wear: float = 0.0


@dataclass(frozen=True)
class Spine:
    """One phantom's spine.

    Attributes:
        bodies: L5 to T8.
        discs: L5/S to T8/T9; ``discs[i]`` lies below ``bodies[i]``.
        sacrum: S1 to S5 and the coccyx.
        height: positions along the posterior wall at which the curve is sampled, mm above the top of S1, shape (n,).
        curve: (anterior, superior) position of those samples, mm, shape (n, 2).
        lean: inclination of the curve there, radians, shape (n,).
        sway: left-right position (right positive) of those samples, mm, shape (n,).
        turn: axial rotation there, radians, shape (n,).
        scale: size against the average adult.
    """

    bodies: tuple[Part, ...]
    discs: tuple[Part, ...]
    sacrum: tuple[Part, ...]
    height: np.ndarray
    curve: np.ndarray
    lean: np.ndarray
    sway: np.ndarray
    turn: np.ndarray
    scale: float

    def at(self, height: float) -> tuple[float, float]:
        """Return the (anterior, superior) position of the posterior wall at a height, mm."""
        return tuple(float(np.interp(height, self.height, self.curve[:, axis])) for axis in range(2))

    def body_size(self, height: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return depth and half width of the bodies at each height, mm, as if there were no gaps between them."""
        at = [(p.bottom + p.top) / 2 for p in self.bodies]
        depth = np.interp(height, at, [p.depth for p in self.bodies])
        width = np.interp(height, at, [p.half_width for p in self.bodies])
        return depth.astype(np.float32), width.astype(np.float32)


@dataclass(frozen=True)
class SpineCoordinates:
    """Coordinates of every voxel that follow the spine, each float32 of shape (slices, rows, columns), mm.

    Attributes:
        along: height along the spine above the top of S1.
        front: distance in front of the bodies' posterior wall.
        side: distance to the right of the spine's middle.
    """

    along: np.ndarray
    front: np.ndarray
    side: np.ndarray


def draw_spine(rng: np.random.Generator, scale: float | None = None) -> Spine:
    """Draw a spine.

    Args:
        rng: source of every size and angle.
        scale: size against the average adult; None draws it.

    Returns:
        The spine, with the top of S1's posterior wall at the origin.
    """
    scale = float(np.clip(rng.normal(0.99, 0.05), 0.88, 1.07)) if scale is None else scale
    flat, wide = np.clip(rng.normal(1.0, 0.03, 2), 0.95, 1.05)  # some people have low, some have narrow vertebrae
    ageing = rng.beta(1.2, 1.6)  # worn discs come together, most of them low down
    bodies, discs = [], []
    height = 0.0
    for i, value in enumerate(_VALUES):
        size = scale * rng.normal(1.0, 0.015, 3)
        depth, half = _BODY_DEPTH[i] * size[0] * wide, _BODY_WIDTH[i] * size[1] * wide / 2
        wear = float(np.clip(rng.normal(ageing * (1.0 if i < 3 else 0.6), 0.22), 0.0, 1.0))
        thick = max(4.4, _DISC_HEIGHT[i] * scale * rng.normal(1.0, 0.07) * (1 - 0.38 * wear**2))
        bulge = 1.0 + rng.uniform(0.02, 0.05) + 0.04 * wear
        discs.append(Part(_DISC_VALUES[i], height, height + thick, depth * bulge, half * 1.03, wear))
        height += thick
        tall = _BODY_HEIGHT[i] * scale * flat * size[2]
        if rng.random() < 0.04:
            tall *= rng.uniform(0.75, 0.9)  # an old compression fracture
        bodies.append(Part(value, height, height + tall, depth, half))
        height += tall
    sacrum, low = [], 0.0
    for i, tall in enumerate(_SACRAL_HEIGHT):
        tall = tall * scale * rng.normal(1.0, 0.03)
        depth, half = _SACRAL_DEPTH[i] * scale * wide, _SACRAL_WIDTH[i] * scale * wide / 2
        sacrum.append(Part(1 if i < 5 else 0, low - tall, low, depth, half))
        low -= tall

    # Inclinations are given at the middles of the parts; between them the spine bends evenly.
    slope = float(np.clip(rng.normal(39.0, 6.5), 25.0, 54.0))
    swing = rng.normal(1.0, 0.1)
    knots = [(p.bottom + p.top) / 2 for p in (*sacrum[::-1], *bodies)]
    leans = [slope + lean for lean in _SACRAL_LEAN[::-1]] + [slope + swing * lean for lean in _LEAN]
    leans = np.array(leans) + rng.normal(0.0, 1.0, len(leans)) + (slope - 39.0) * np.linspace(0, -0.7, len(leans))
    along = np.arange(np.floor(low) - 60.0, np.ceil(height) + 60.0)
    lean = ndimage.gaussian_filter1d(np.deg2rad(np.interp(along, knots, leans)), 9.0, mode="nearest")
    curve = np.stack([np.cumsum(np.sin(lean)), np.cumsum(np.cos(lean))], axis=1)
    curve -= [np.interp(0.0, along, curve[:, axis]) for axis in range(2)]

    bend, length, phase = rng.normal(0.0, 2.2), rng.uniform(45.0, 75.0), rng.uniform(0.0, 2 * np.pi)
    sway = bend * np.sin(along / length + phase) + rng.normal(0.0, 0.012) * along
    turn = np.deg2rad(np.clip(1.3 * bend, -6, 6)) * np.sin(along / length + phase)
    return Spine(tuple(bodies), tuple(discs), tuple(sacrum), along, curve, lean, sway, turn, scale)


def spine_coordinates(spine: Spine, across: np.ndarray, up: np.ndarray, ahead: np.ndarray) -> SpineCoordinates:
    """Return every voxel's coordinates along the spine.

    Args:
        spine: the spine.
        across: left-right position of each slice, mm, shape (slices,).
        up: superior position of each row, mm, shape (rows,).
        ahead: anterior position of each column, mm, shape (columns,).
    """
    points = np.stack(np.broadcast_arrays(ahead[None, :], up[:, None]), axis=-1).reshape(-1, 2)
    nearest = cKDTree(spine.curve).query(points)[1]
    away = points - spine.curve[nearest]
    sine, cosine = np.sin(spine.lean[nearest]), np.cos(spine.lean[nearest])
    front = away[:, 0] * cosine - away[:, 1] * sine
    # The step to the nearest sample's own plane, stretched where the spine bends, makes the height continuous.
    bend = np.gradient(spine.lean, spine.height)[nearest]
    along = spine.height[nearest] + (away[:, 0] * sine + away[:, 1] * cosine) / np.clip(1 - bend * front, 0.4, 2.5)
    grid = (len(up), len(ahead))
    along = along.reshape(grid)
    sway = np.interp(along, spine.height, spine.sway).astype(np.float32)
    tilt = np.interp(along, spine.height, np.gradient(spine.sway, spine.height)).astype(np.float32)
    turn = np.interp(along, spine.height, spine.turn).astype(np.float32)
    along, front = along.astype(np.float32), front.reshape(grid).astype(np.float32)
    side = across.astype(np.float32)[:, None, None] - sway
    return SpineCoordinates(along + tilt * side, front + turn * side, side - turn * front)

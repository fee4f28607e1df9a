"""What partly hides the nerve in the video phantom: flaps of tissue, lumps of fat, edges of bone, cotton, membranes."""

from __future__ import annotations

import numpy as np

from common.data.video.phantom_materials import Palette, material
from common.data.video.phantom_motion import Drift
from common.data.video.phantom_noise import Texture, smooth_noise, smoothstep
from common.data.video.phantom_surface import Surface

__all__ = ["Cover", "Membrane"]

_PERIOD, _SIZE = 3.2, 320


class Cover:
    """A flap or lump of tissue nearer to the camera than the nerve.

    Args:
        kind: its material.
        shape: ``flap`` (everything on one side of a ragged line), ``lump`` (an island) or ``pad`` (a rectangle).
        place: x and y of the lump's middle, or of the point of the flap's edge that is nearest to the origin.
        radius: half of the lump's size; no meaning for a flap.
        palette: the sequence's colours.
        rng: source of its surface and motion.
        pixel: size of a pixel.
    """

    def __init__(
        self,
        kind: str,
        shape: str,
        place: tuple[float, float],
        radius: float,
        palette: Palette,
        rng: np.random.Generator,
        pixel: float,
    ) -> None:
        self._shape, self._place, self._radius = shape, np.asarray(place, np.float32), radius
        self._skin = Texture(material(kind, palette, rng, _SIZE, _PERIOD), (_PERIOD, _PERIOD), pixel)
        edge = smooth_noise(rng, (192, 192), 0.16 / _PERIOD, octaves=4)
        self._edge = Texture(edge[..., None], (_PERIOD, _PERIOD), pixel)
        self._ragged = 0.02 if shape == "pad" else rng.uniform(0.04, 0.1)
        self._turn = rng.uniform(0, 2 * np.pi)
        self._lump = 3.0 if kind == "fat" else 0.0  # lobules bulge over the edge
        self._thick = rng.uniform(0.05, 0.16)
        self._slope = rng.uniform(0.06, 0.2)
        self._gloss = {"cotton": 0.1, "bone": 0.45}.get(kind, rng.uniform(0.5, 1.1))
        self._swing = [Drift(rng, 0.15, 1.0) for _ in range(3)]
        self._reach = rng.uniform(0.01, 0.06)
        self._blur = max(0.012, 0.8 * pixel)
        self.nearness = float(rng.uniform(1.05, 1.25))
        self.shift = np.zeros(2)  # where the flap has been pushed at this moment

    @property
    def direction(self) -> np.ndarray:
        """From the origin to where the cover lies, a unit vector."""
        return self._place / max(float(np.hypot(*self._place)), 1e-6)

    def paint(self, surface: Surface, x: np.ndarray, y: np.ndarray, frame: float) -> None:
        """Lay the cover over the surface; arguments as in ``Band.paint``."""
        swing = [self._reach * drift(frame) for drift in self._swing]
        right = x - np.float32(self.shift[0] + swing[0])
        down = y - np.float32(self.shift[1] + swing[1])
        edge = self._edge.at(right, down)[:, 0]
        if self._shape == "flap":
            outward = self.direction
            inside = right * outward[0] + down * outward[1] - np.float32(np.hypot(*self._place))
        else:
            angle = self._turn + swing[2]
            a, b = right - self._place[0], down - self._place[1]
            cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
            a, b = cosine * a + sine * b, 1.4 * (cosine * b - sine * a)
            distance = np.maximum(np.abs(a), np.abs(b)) if self._shape == "pad" else np.hypot(a, b)
            inside = self._radius - distance
        inside = inside + np.float32(self._ragged) * edge
        near = np.flatnonzero(inside > -self._blur - 0.1 * (self._lump > 0))
        skin, inside = self._skin.at(right[near], down[near]), inside[near]
        inside = inside + np.float32(self._lump) * (skin[:, 3] - np.float32(0.03))
        part = smoothstep(inside, -self._blur, self._blur)
        bow = 1 - np.exp(-np.maximum(inside, 0) / np.float32(self._slope))
        height = 0.3 * surface.height[near] + np.float32(0.05) + np.float32(self._thick) * bow + skin[:, 3]
        surface.cover(near, part, skin[:, :3], height, self._gloss)


class Membrane:
    """A thin clear film that hangs over everything in places.

    Args:
        palette: the sequence's colours.
        rng: source of its surface.
        pixel: size of a pixel.
    """

    nearness = 1.03

    def __init__(self, palette: Palette, rng: np.random.Generator, pixel: float) -> None:
        shape = (256, 256)
        there = smoothstep(smooth_noise(rng, shape, 0.25 / _PERIOD, octaves=3), 0.0, 0.5)
        strand = smooth_noise(rng, shape, (0.012 / _PERIOD, 0.12 / _PERIOD), octaves=2)
        image = np.stack([there, 0.004 * strand + 0.012 * there], axis=-1)
        self._film = Texture(image, (_PERIOD, _PERIOD), pixel)
        self._colour, self._clear = palette.pale(), float(rng.uniform(0.6, 0.85))

    def paint(self, surface: Surface, x: np.ndarray, y: np.ndarray, frame: float) -> None:
        """Lay the film over the surface; arguments as in ``Band.paint``."""
        film = self._film.at(x, y)
        height = surface.height + film[:, 1]
        surface.cover(slice(None), film[:, 0], self._colour, height, 1.0, clear=self._clear)

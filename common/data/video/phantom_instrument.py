"""Instruments in the video phantom: a metal shaft with forceps or a burr at its tip."""

from __future__ import annotations

import numpy as np

from common.data.video.phantom_motion import Drift
from common.data.video.phantom_noise import Texture, smooth_noise, smoothstep
from common.data.video.phantom_surface import Surface

__all__ = ["Instrument"]


class Instrument:
    """A shaft that comes in from the side, with its tip.

    It belongs to the image, not to the tissue: it is held by hand beside the camera.

    Args:
        rng: source of its looks and motion.
        pixel: size of a pixel.
    """

    def __init__(self, rng: np.random.Generator, pixel: float) -> None:
        self._tip = "burr" if rng.random() < 0.4 else "forceps"
        self._angle = rng.uniform(0, 2 * np.pi)
        self._half = rng.uniform(0.07, 0.13)
        self._depth, self._swing = Drift(rng, 0.12, 0.8), [Drift(rng, 0.2, 1.5) for _ in range(2)]
        self._rest, self._reach = rng.uniform(0.35, 1.0), rng.uniform(0.2, 0.5)
        self._grip, self._open = Drift(rng, 0.3, 1.5), rng.uniform(0.12, 0.3)
        self._length = rng.uniform(0.22, 0.36)
        self._spin = rng.uniform(0.7, 2.6)
        self._grey = np.asarray(rng.uniform(0.14, 0.4) * np.exp(rng.normal(0, 0.05, 3)), np.float32)
        scratch = smooth_noise(rng, (128, 256), (0.01, 0.2), octaves=2)
        self._metal = Texture(scratch[..., None], (1.0, 2.0), pixel)
        self._blur = max(0.012, 0.8 * pixel)

    def paint(self, surface: Surface, x: np.ndarray, y: np.ndarray, frame: float) -> None:
        """Lay the instrument over the surface; arguments as in ``Band.paint``, but places are those in the image."""
        angle = self._angle + 0.06 * self._swing[0](frame)
        out = self._rest + self._reach * self._depth(frame)  # distance of the tip from the middle of the view
        cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        along = cosine * x + sine * y - np.float32(out)  # grows from the tip to the hand
        across = cosine * y - sine * x - np.float32(0.05 * self._swing[1](frame))
        near = np.flatnonzero((along > -1.2 * self._length) & (np.abs(across) < 0.5))
        along, across = along[near], across[near]
        if self._tip == "burr":
            self._round(surface, near, along, across, -0.06, 0.55 * self._half, 0.0)
            self._ball(surface, near, along, across, 1.35 * self._half, frame)
            self._round(surface, near, along, across, 1.1 * self._half, self._half, 0.0)
            return
        wide = self._open * (1.0 + np.clip(self._grip(frame), -1, 1.2))
        for side in (-1, 1):
            c, s = np.float32(np.cos(wide)), np.float32(side * np.sin(wide))
            a, b = c * along - s * across, c * across + s * along
            self._jaw(surface, near, a, b * side)
        self._round(surface, near, along, across, -0.01, 0.8 * self._half, 0.02)

    def _lay(self, surface: Surface, pixels: np.ndarray, inside: np.ndarray, bow: np.ndarray, tone: np.ndarray) -> None:
        """Lay metal where ``inside`` is positive; ``bow`` is its height, ``tone`` its brightness."""
        part = smoothstep(inside, -self._blur, self._blur)
        colour = np.clip(tone[:, None] * self._grey, 0, 1)
        surface.cover(pixels, part, colour, np.float32(0.3) + bow, 1.6)

    def _round(
        self,
        surface: Surface,
        pixels: np.ndarray,
        along: np.ndarray,
        across: np.ndarray,
        start: float,
        half: float,
        lift: float,
    ) -> None:
        """Lay a cylinder that begins at ``start`` and goes on to the hand."""
        inside = np.minimum(along - np.float32(start), half - np.abs(across))
        part = across / half
        # Bright and dark lines along a cylinder: metal shows its surroundings.
        tone = 0.75 + 0.5 * np.cos(5 * part + 0.6) + 0.09 * self._metal.at(along, across)[:, 0]
        self._lay(surface, pixels, inside, lift + 0.7 * half * np.sqrt(np.clip(1 - part**2, 0, 1)), tone)

    def _ball(
        self, surface: Surface, pixels: np.ndarray, along: np.ndarray, across: np.ndarray, radius: float, frame: float
    ) -> None:
        """Lay a burr with its flutes, which turn."""
        distance = np.hypot(along - 0.3 * radius, across)
        flute = np.cos(6 * np.arcsin(np.clip(across / radius, -1, 1)) + 5 * along / radius + self._spin * frame)
        bow = np.sqrt(np.clip(1 - (distance / radius) ** 2, 0, 1))
        self._lay(surface, pixels, radius - distance, 0.8 * radius * bow + 0.012 * flute, 0.8 + 0.45 * flute)

    def _jaw(self, surface: Surface, pixels: np.ndarray, along: np.ndarray, across: np.ndarray) -> None:
        """Lay one jaw of the forceps: a cup that narrows towards its end, with teeth on its inner side."""
        length = self._length
        part = np.clip(-along / length, 0, 1)
        half = self._half * (0.62 - 0.3 * part)
        teeth = 0.014 * np.abs(np.sin(along * np.float32(np.pi / 0.045))) * (across < 0)
        end = np.clip(-along - length, 0, None)
        away = np.hypot(across - half * 0.6, end)
        inside = np.minimum(half - away - teeth, 0.05 - along)
        bow = np.sqrt(np.clip(1 - (away / half) ** 2, 0, 1))
        tone = 0.7 + 0.4 * np.cos(4 * across / half) + 0.08 * self._metal.at(along, across)[:, 0]
        self._lay(surface, pixels, inside, 0.6 * half * bow, tone)

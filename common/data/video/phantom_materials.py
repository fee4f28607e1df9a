"""Colours and surfaces of the tissues in the video phantom."""

from __future__ import annotations

import colorsys

import numpy as np

from common.data.video.phantom_noise import cells, smooth_noise, smoothstep, veins

__all__ = ["BLOOD", "MATERIALS", "Palette", "material"]

MATERIALS = ("flesh", "membrane", "fat", "ligament", "bone", "cotton")
# What a vessel takes from the light that passes it: blood is red because it takes the rest.
BLOOD = np.array([0.32, 1.55, 1.35], np.float32)


def _linear(colour: np.ndarray | tuple[float, ...]) -> np.ndarray:
    """Return the light that belongs to a display colour (gamma 2.2)."""
    return np.asarray(colour, np.float32) ** np.float32(2.2)


class Palette:
    """Colours of one sequence.

    What is pale (nerve, fat, ligament, bone) differs more from one sequence to the next than within one, so that
    colour does not tell the nerve.

    Args:
        rng: source of the colours.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._pale = (rng.uniform(0.0, 0.115), rng.uniform(0.1, 0.4), rng.uniform(0.78, 0.96))
        self._flesh = (rng.uniform(-0.02, 0.035), rng.uniform(0.32, 0.62), rng.uniform(0.6, 0.88))
        self.nerve = self.pale(0.5)

    def pale(self, spread: float = 1.0) -> np.ndarray:
        """Return the light of a pale tissue, shape (3,)."""
        hue, saturation, value = self._pale
        hue += spread * self._rng.normal(0, 0.02)
        saturation *= np.exp(spread * np.clip(self._rng.normal(0, 0.28), -0.6, 0.6))
        value *= np.exp(spread * np.clip(self._rng.normal(0, 0.09), -0.2, 0.1))
        return self._light(hue, saturation, value)

    def flesh(self) -> np.ndarray:
        """Return the light of a tissue that is full of blood, shape (3,)."""
        hue, saturation, value = self._flesh
        hue, saturation = hue + self._rng.normal(0, 0.012), saturation * self._rng.uniform(0.85, 1.15)
        return self._light(hue, saturation, value * self._rng.uniform(0.85, 1.1))

    @staticmethod
    def _light(hue: float, saturation: float, value: float) -> np.ndarray:
        return _linear(colorsys.hsv_to_rgb(hue % 1.0, min(saturation, 0.85), min(value, 0.98)))


def material(kind: str, palette: Palette, rng: np.random.Generator, size: int, period: float) -> np.ndarray:
    """Return the surface of a tissue as a periodic image.

    Args:
        kind: one of ``MATERIALS``.
        palette: the sequence's colours.
        rng: source of the surface.
        size: rows and columns.
        period: their length, in half view sizes.

    Returns:
        Light in red, green, blue, and height, float32 of shape (size, size, 4).
    """
    shape, unit = (size, size), 1 / period
    cloud = smooth_noise(rng, shape, 0.16 * unit, octaves=3)
    grain = smooth_noise(rng, shape, 0.012 * unit, octaves=2)
    if kind == "fat":
        lump, shade = cells(rng, shape, int(rng.uniform(14, 40) * period**2))
        colour = palette.pale() * (1 + 0.12 * (shade - 0.5) + 0.05 * grain + 0.06 * cloud)[..., None]
        colour = colour * np.exp(-0.5 * (1 - lump)[..., None] * BLOOD)
        height = 0.038 * lump + 0.0012 * grain
        vessel = 0.6 * veins(rng, shape, 0.12 * unit, 0.12)
    elif kind == "ligament":
        fibre = smooth_noise(rng, shape, (0.016 * unit, 0.16 * unit), octaves=2)
        colour = palette.pale() * (1 + 0.07 * fibre + 0.06 * cloud + 0.03 * grain)[..., None]
        height = 0.0035 * fibre + 0.008 * cloud + 0.001 * grain
        vessel = 0.25 * veins(rng, shape, 0.2 * unit, 0.06)
    elif kind == "bone":
        pit = smoothstep(smooth_noise(rng, shape, 0.014 * unit), 1.5, 2.4)
        colour = palette.pale() * (1 + 0.06 * cloud + 0.04 * grain)[..., None]
        colour = colour * np.exp(-0.9 * pit[..., None] * BLOOD)
        height = 0.012 * cloud + 0.0012 * grain - 0.012 * pit
        vessel = np.zeros(shape, np.float32)
    elif kind == "cotton":
        # Threads both ways.
        fuzz = sum(
            smooth_noise(rng, shape, sigma) for sigma in ((0.006 * unit, 0.03 * unit), (0.03 * unit, 0.006 * unit))
        )
        colour = palette.pale() ** 0.6 * (0.9 + 0.06 * fuzz + 0.03 * cloud)[..., None]
        height = 0.004 * fuzz + 0.006 * cloud
        vessel = 0.5 * smoothstep(smooth_noise(rng, shape, 0.2 * unit, octaves=3), 0.2, 1.6)
    else:
        base = palette.flesh() if kind == "flesh" else palette.pale(1.4)
        strand = smooth_noise(rng, shape, (0.02 * unit, 0.09 * unit), octaves=2)
        colour = base * np.exp(0.13 * cloud + 0.06 * grain + 0.05 * strand)[..., None]
        height = 0.014 * cloud + 0.0016 * grain + 0.003 * strand
        vessel = rng.uniform(0.2, 0.8) * veins(rng, shape, rng.uniform(0.07, 0.14) * unit, 0.1)
    colour = colour * np.exp(-vessel[..., None] * BLOOD)
    return np.concatenate([np.clip(colour, 0, 1), height[..., None]], axis=-1).astype(np.float32)

"""Bands in the video phantom: the nerve, and the ligaments and veins that resemble it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.data.video.phantom_materials import BLOOD, Palette
from common.data.video.phantom_motion import Drift
from common.data.video.phantom_noise import Texture, smooth_noise, smoothstep, veins
from common.data.video.phantom_surface import Surface

__all__ = ["Band", "ligament", "nerve", "vein"]

_LENGTH = 6.4  # period of a band's texture along it
_SIZE = (160, 512)  # pixels of a band's texture across and along


@dataclass(frozen=True)
class _Style:
    """What tells one kind of band from another: colour, half width, profile (0 flat, 1 round), edge, rise, gloss."""

    colour: np.ndarray
    half: float
    round: float
    ragged: float
    rise: float
    gloss: float


class Band:
    """A band that crosses the view, bends and moves.

    Args:
        style: its shape.
        skin: its surface, (rows across, columns along, 4): colour and height.
        angle: its direction, radians.
        offset: distance of its middle line from the origin.
        rng: source of its bends and motion.
        pixel: size of a pixel.
        nerve: whether it is the nerve.
    """

    def __init__(
        self,
        style: _Style,
        skin: np.ndarray,
        angle: float,
        offset: float,
        rng: np.random.Generator,
        pixel: float,
        nerve: bool = False,
    ) -> None:
        self.angle, self.offset, self._style, self._nerve = angle, offset, style, nerve
        # The texture spans the band and a margin: what lies beyond is cut off.
        self._skin = Texture(skin, (3.0 * style.half, _LENGTH), pixel)
        edge = smooth_noise(rng, (2, 512), (0.0, 0.02), octaves=3).T
        self._edge = Texture(np.ascontiguousarray(edge)[None], (1.0, _LENGTH), pixel)
        self._wave = 2 * np.pi / rng.uniform(1.5, 5.0, 3)
        self._bend = rng.uniform(0.02, 0.1, 3) / self._wave * rng.uniform(1.0, 3.0)
        self._swing = [Drift(rng, 0.1, 0.6) for _ in range(4)]
        self._phase = rng.uniform(0, 2 * np.pi, 3)
        self._sway = rng.uniform(0.01, 0.06)
        self._swell = rng.uniform(0.05, 0.22) * rng.choice([-1, 1])
        self._blur = max(0.012, 0.8 * pixel)
        # Nothing of the band lies farther than this from its straight middle line.
        self._margin = float(self._bend.sum() + 4 * self._sway + 1.25 * style.half + 3 * style.ragged + self._blur)

    def paint(self, surface: Surface, x: np.ndarray, y: np.ndarray, frame: float) -> None:
        """Lay the band over the surface.

        Args:
            surface: what lies below.
            x: place of every pixel in the plane of the band, float32 of shape (N,).
            y: the same, down.
            frame: the time.
        """
        style = self._style
        sine, cosine = np.float32(np.sin(self.angle)), np.float32(np.cos(self.angle))
        along, across = cosine * x + sine * y, cosine * y - sine * x
        near = np.flatnonzero(np.abs(across - np.float32(self.offset)) < self._margin)
        along, across = along[near], across[near]
        middle = np.full_like(along, self.offset + self._sway * self._swing[3](frame))
        slope = np.zeros_like(along)
        for wave, bend, phase, swing in zip(self._wave, self._bend, self._phase, self._swing, strict=False):
            angle = np.float32(wave) * along + np.float32(phase + 0.35 * swing(frame))
            middle += np.float32(bend) * np.sin(angle)
            slope += np.float32(bend * wave) * np.cos(angle)
        away = (across - middle) / np.sqrt(1 + slope**2)
        close = np.abs(away) < 1.25 * style.half + 3 * np.float32(style.ragged) + self._blur
        near, along, away = near[close], along[close], away[close]
        edge = self._edge.at(along, np.zeros_like(along))
        half = np.float32(style.half) * (1 + np.float32(self._swell) * np.sin(0.8 * along + np.float32(self._phase[0])))
        inside = half - np.abs(away) + np.float32(style.ragged) * np.where(away > 0, edge[:, 0], edge[:, 1])
        part = smoothstep(inside, -self._blur, self._blur)
        skin = self._skin.at(along, away / half * np.float32(style.half))
        bow = np.sqrt(np.clip(1 - (away / half) ** 2, 0, 1))
        profile = np.float32(style.round) * bow + np.float32(1 - style.round) * np.minimum(1, 2.5 * bow)
        height = 0.5 * surface.height[near] + np.float32(style.rise) * profile + skin[:, 3]
        surface.cover(near, part, skin[:, :3], height, style.gloss, nerve=self._nerve)


def nerve(palette: Palette, rng: np.random.Generator, pixel: float) -> Band:
    """Return the nerve: smooth and rounded, with fine fibres and vessels along it."""
    half = float(rng.uniform(0.11, 0.21))
    across, along = 1 / (3.0 * half), 1 / _LENGTH
    fibre = smooth_noise(rng, _SIZE, (0.011 * across, 0.35 * along), octaves=2)
    bundle = smooth_noise(rng, _SIZE, (0.035 * across, 0.9 * along))
    cloud = smooth_noise(rng, _SIZE, (0.1 * across, 0.25 * along), octaves=2)
    grain = smooth_noise(rng, _SIZE, (0.012 * across, 0.012 * along), octaves=2)
    vessel = veins(rng, _SIZE, (0.06 * across, 0.35 * along), 0.16) * rng.uniform(0.3, 0.9)
    colour = palette.nerve * np.exp(0.055 * fibre + 0.05 * bundle + 0.07 * cloud + 0.02 * grain)[..., None]
    colour = colour * np.exp(-vessel[..., None] * BLOOD)
    height = 0.0016 * fibre + 0.004 * bundle + 0.0012 * grain + 0.004 * vessel
    style = _Style(palette.nerve, half, 0.8, 0.006, half * rng.uniform(0.5, 0.9), rng.uniform(0.5, 1.0))
    skin = np.concatenate([np.clip(colour, 0, 1), height[..., None]], axis=-1)
    return Band(style, skin, rng.uniform(0, np.pi), float(rng.uniform(-0.4, 0.4)), rng, pixel, nerve=True)


def ligament(palette: Palette, rng: np.random.Generator, pixel: float) -> Band:
    """Return a band of ligament: as pale as the nerve, but flat, ragged, with coarse fibres across it."""
    half = float(rng.uniform(0.1, 0.24))
    across, along = 1 / (3.0 * half), 1 / _LENGTH
    base = palette.pale(0.7)
    fibre = smooth_noise(rng, _SIZE, (0.12 * across, 0.018 * along), octaves=2)
    cloud = smooth_noise(rng, _SIZE, (0.08 * across, 0.1 * along), octaves=3)
    grain = smooth_noise(rng, _SIZE, (0.012 * across, 0.012 * along), octaves=2)
    colour = base * np.exp(0.06 * fibre + 0.08 * cloud + 0.03 * grain)[..., None]
    height = 0.003 * fibre + 0.01 * cloud + 0.0012 * grain
    style = _Style(base, half, 0.1, float(rng.uniform(0.025, 0.05)), half * 0.35, rng.uniform(0.3, 0.9))
    skin = np.concatenate([np.clip(colour, 0, 1), height[..., None]], axis=-1)
    return Band(style, skin, rng.uniform(0, np.pi), float(rng.uniform(-0.9, 0.9)), rng, pixel)


def vein(palette: Palette, rng: np.random.Generator, pixel: float) -> Band:
    """Return an epidural vein: smooth and rounded like the nerve, but dark and without fibres."""
    half = float(rng.uniform(0.03, 0.1))
    base = palette.flesh() * np.exp(-rng.uniform(0.2, 0.7) * BLOOD)
    cloud = smooth_noise(rng, _SIZE, (0.3, 0.1 / _LENGTH), octaves=3)
    colour = np.clip(base * np.exp(0.1 * cloud)[..., None], 0, 1)
    style = _Style(base, half, 1.0, 0.006, half * 0.8, 0.8)
    skin = np.concatenate([colour, 0.002 * cloud[..., None]], axis=-1)
    return Band(style, skin, rng.uniform(0, np.pi), float(rng.uniform(-0.9, 0.9)), rng, pixel)

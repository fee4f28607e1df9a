"""The irrigation fluid of the video phantom: blood, haze, debris and bubbles between the tissue and the lens."""

from __future__ import annotations

import numpy as np

from common.data.video.phantom_materials import BLOOD
from common.data.video.phantom_motion import Drift
from common.data.video.phantom_noise import Texture, smooth_noise, smoothstep

__all__ = ["Fluid"]

_PERIOD = 3.6


class Fluid:
    """Flowing saline with what it carries.

    Args:
        rng: source of everything that it carries.
        pixel: size of a pixel.
    """

    def __init__(self, rng: np.random.Generator, pixel: float) -> None:
        shape = (192, 192)
        image = [smooth_noise(rng, shape, sigma / _PERIOD, octaves=4) for sigma in (0.32, 0.14, 0.3)]
        self._cloud = Texture(np.stack(image, axis=-1), (_PERIOD, _PERIOD), pixel)
        direction, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0.004, 0.03)
        self._flow = speed * np.array([np.cos(direction), np.sin(direction)])
        self._bleeding = float(rng.choice([0.0, 0.4, 0.9, 1.6], p=[0.35, 0.25, 0.25, 0.15]))
        self._pulse, self._mist = Drift(rng, 0.1, 0.6), Drift(rng, 0.1, 0.5)
        self._stain = float(rng.choice([0.0, 0.25, 0.6], p=[0.3, 0.4, 0.3]))
        self._haze = rng.uniform(0.0, 0.14) * np.array([1.0, rng.uniform(0.75, 1.0), rng.uniform(0.65, 1.0)])
        self._shimmer = rng.uniform(0.0, 0.008)
        count = int(rng.choice([0, 3, 8, 16], p=[0.35, 0.3, 0.2, 0.15]))
        self._bubbles = _Carried(rng, count, 0.012, 0.09, self._flow * rng.uniform(0.5, 2.0))
        self._debris = _Carried(rng, int(rng.integers(0, 12)), 0.006, 0.02, self._flow * rng.uniform(0.7, 1.6))

    def bend(self, x: np.ndarray, y: np.ndarray, frame: float) -> tuple[np.ndarray, np.ndarray]:
        """Return where rays go that the moving fluid bends a little."""
        wave = self._cloud.at(x - np.float32(3 * self._flow[0] * frame), y - np.float32(3 * self._flow[1] * frame))
        return x + np.float32(self._shimmer) * wave[..., 0], y + np.float32(self._shimmer) * wave[..., 1]

    def stain(self, colour: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the tissue's colour with the blood that clings to it; x and y move with the tissue."""
        if self._stain == 0:
            return colour
        amount = smoothstep(self._cloud.at(x, y)[..., 2], -0.3, 1.5)
        return colour * np.exp(np.float32(-self._stain) * amount[..., None] * BLOOD)

    def carry(self, light: np.ndarray, x: np.ndarray, y: np.ndarray, frame: float) -> np.ndarray:
        """Return the light after its way through the fluid.

        Args:
            light: what comes from the tissue, shape (H, W, 3); bubbles are drawn into it.
            x: place of every pixel in the image, to the right.
            y: the same, down.
            frame: the time.
        """
        if self._bleeding:
            flow = np.float32(frame) * self._flow.astype(np.float32)
            slow = self._cloud.at(x - flow[0], y - flow[1])[..., 0]
            fast = self._cloud.at(1.3 * x - 1.8 * flow[0] + 0.9, 1.3 * y - 1.8 * flow[1])[..., 1]
            amount = self._bleeding * np.clip(0.6 + 0.6 * self._pulse(frame), 0, 1.4)
            density = np.float32(amount) * smoothstep(slow + 0.45 * fast, -0.5, 1.9)[..., None]
            light = light * np.exp(-density * BLOOD) + (1 - np.exp(-density)) * np.float32([0.11, 0.008, 0.006])
        haze = (self._haze * np.clip(1 + 0.6 * self._mist(frame), 0.2, 2.2)).astype(np.float32)
        light = light * (1 - haze) + 0.42 * haze
        for place, radius, shade in self._debris.at(frame):
            _speck(light, x, y, place, radius, shade)
        for place, radius, shade in self._bubbles.at(frame):
            _bubble(light, x, y, place, radius, shade)
        return light


class _Carried:
    """Small things that the flow carries through the view, again and again."""

    def __init__(self, rng: np.random.Generator, count: int, small: float, large: float, flow: np.ndarray) -> None:
        self._start = rng.uniform(-2.5, 2.5, (count, 2))
        self._radius = np.exp(rng.uniform(np.log(small), np.log(large), count))
        self._speed = flow * rng.uniform(0.6, 1.5, (count, 1)) + rng.normal(0, 0.003, (count, 2))
        self._wobble = rng.uniform(0, 2 * np.pi, count)
        self._shade = rng.uniform(0.3, 1.0, count)

    def at(self, frame: float) -> list[tuple[np.ndarray, float, float]]:
        places = self._start + frame * self._speed
        places += 0.02 * np.sin(0.25 * frame + self._wobble)[:, None]
        places = (places + 2.5) % 5.0 - 2.5
        return list(zip(places, self._radius, self._shade, strict=True))


def _box(x: np.ndarray, y: np.ndarray, place: np.ndarray, reach: float) -> tuple[slice, slice]:
    """Return the pixels within reach of a place."""
    columns = np.searchsorted(x[0], (place[0] - reach, place[0] + reach))
    rows = np.searchsorted(y[:, 0], (place[1] - reach, place[1] + reach))
    return slice(*rows), slice(*columns)


def _speck(light: np.ndarray, x: np.ndarray, y: np.ndarray, place: np.ndarray, radius: float, shade: float) -> None:
    box = _box(x, y, place, 3 * radius)
    square = ((x[box] - place[0]) ** 2 + (y[box] - place[1]) ** 2) / np.float32(radius**2)
    part = (np.float32(0.35 * shade) * np.exp(-square))[..., None]
    light[box] += part * (np.float32([0.75, 0.68, 0.6]) - light[box])


def _bubble(light: np.ndarray, x: np.ndarray, y: np.ndarray, place: np.ndarray, radius: float, shade: float) -> None:
    """Draw a bubble: a dark rim, a bright crescent within it, and the reflex of the lamp."""
    box = _box(x, y, place, 1.3 * radius)
    right, down = (x[box] - place[0]) / np.float32(radius), (y[box] - place[1]) / np.float32(radius)
    distance = np.hypot(right, down)
    rim = np.exp(-(((distance - 0.93) / 0.1) ** 2))
    crescent = np.exp(-(((distance - 0.76) / 0.13) ** 2)) * np.clip(0.35 + 0.65 * (right + down) / 1.2, 0, 1)
    reflex = np.exp(-((right + 0.35) ** 2 + (down + 0.4) ** 2) / 0.02)
    light[box] *= (1 - 0.6 * shade * rim)[..., None]
    light[box] += (np.float32(shade) * (0.3 * crescent + 0.9 * reflex))[..., None]

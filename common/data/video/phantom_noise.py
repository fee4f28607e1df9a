"""Periodic random fields, and textures that are looked up at any place of an endless plane."""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage
from scipy.spatial import cKDTree

__all__ = ["Texture", "cells", "smooth_noise", "smoothstep", "veins"]


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], sigma: tuple[float, float] | float, octaves: int = 1
) -> np.ndarray:
    """Return periodic Gaussian noise of mean 0 and standard deviation 1.

    Args:
        rng: source of the noise.
        shape: rows and columns.
        sigma: standard deviation of the smoothing kernel, as a part of the period, along rows and columns.
        octaves: number of layers; each has half the sigma of the one before and 0.55 of its strength.

    Returns:
        float32 array of that shape.
    """
    sigma = np.broadcast_to(np.asarray(sigma, np.float32), 2)
    white = fft.rfft2(rng.standard_normal(shape, dtype=np.float32))
    rows = np.fft.fftfreq(shape[0], 1 / shape[0]).astype(np.float32)[:, None] * sigma[0]
    columns = np.fft.rfftfreq(shape[1], 1 / shape[1]).astype(np.float32)[None] * sigma[1]
    square = rows**2 + columns**2
    gain = np.zeros_like(square)
    for i in range(octaves):
        scale = 0.5**i
        # A smaller kernel passes more of the white noise: its layer is divided by what it passes.
        layer = np.exp(-2 * np.pi**2 * scale**2 * square)
        gain += 0.55**i * scale * layer
    gain[0, 0] = 0
    field = fft.irfft2(white * gain, shape).astype(np.float32)
    return field / field.std()


def cells(rng: np.random.Generator, shape: tuple[int, int], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a periodic tissue of rounded cells, such as the lobules of fat.

    Args:
        rng: source of the cells' places.
        shape: rows and columns.
        count: number of cells.

    Returns:
        Height of the cells, 0 in the creases to 1 in the middle, and a value of 0 to 1 that each cell has for itself;
        float32 arrays of that shape.
    """
    tree = cKDTree(rng.random((count, 2)), boxsize=1.0)
    rows, columns = (np.arange(size) / size for size in shape)
    # Bent coordinates give bent creases.
    bend = [0.14 * count**-0.5 * smooth_noise(rng, shape, 0.3 * count**-0.5) for _ in range(2)]
    places = np.stack([rows[:, None] + bend[0], columns[None] + bend[1]], axis=-1) % 1.0
    distance, index = tree.query(places.reshape(-1, 2), k=2)
    crease = (distance[:, 1] - distance[:, 0]).reshape(shape) * np.sqrt(count)
    height = 1 - np.exp(-1.6 * crease)
    return height.astype(np.float32), rng.random(count, dtype=np.float32)[index[:, 0].reshape(shape)]


def veins(
    rng: np.random.Generator, shape: tuple[int, int], sigma: tuple[float, float] | float, width: float
) -> np.ndarray:
    """Return thin winding lines that come and go: small vessels.

    Args:
        rng: source of the lines.
        shape: rows and columns.
        sigma: distance of the lines along rows and columns, as a part of the period.
        width: width of the lines as a part of their distance.

    Returns:
        Strength of the lines, 0 to 1, float32 of that shape.
    """
    field = smooth_noise(rng, shape, sigma, octaves=2)
    slope = np.hypot(*(np.gradient(field, axis=axis) for axis in range(2))) + 1e-6
    scale = np.median(slope)
    there = smoothstep(smooth_noise(rng, shape, np.asarray(sigma) * 1.7), -0.1, 0.9)
    # Dividing by the slope gives lines of one width.
    return np.exp(-((field / np.maximum(slope, 0.3 * scale) * scale / width) ** 2)) * there


def smoothstep(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return a smooth step from 0 at ``low`` to 1 at ``high``."""
    part = np.clip((value - low) / (high - low), 0, 1)
    return part * part * (3 - 2 * part)


class Texture:
    """A periodic image that is looked up at any place.

    Args:
        image: shape (rows, columns, channels).
        period: height and width of the image in the plane's unit.
        pixel: size of the pixels that look it up; what is finer is smoothed away, as it would only flicker.
    """

    def __init__(self, image: np.ndarray, period: tuple[float, float], pixel: float) -> None:
        rows, columns, channels = image.shape
        sigma = [0.45 * pixel * size / length for size, length in zip((rows, columns), period, strict=True)]
        sigma = [value if value > 0.4 else 0 for value in sigma]
        if any(sigma):
            image = ndimage.gaussian_filter(image, (*sigma, 0), mode="wrap", truncate=3)
        # One row and one column more, so that no neighbour lies beyond the edge.
        image = np.pad(np.asarray(image, np.float32), ((0, 1), (0, 1), (0, 0)), mode="wrap")
        self._flat = np.ascontiguousarray(image.reshape(-1, channels))
        self._size, self._step = (rows, columns), (rows / period[0], columns / period[1])

    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the channels at places (x along columns, y along rows), float32 of shape (*x.shape, channels)."""
        index, parts = [], []
        for place, size, step in zip((y, x), self._size, self._step, strict=True):
            place = place * np.float32(step / size)
            place = (place - np.floor(place)) * np.float32(size)  # far faster than %
            whole = np.minimum(place.astype(np.intp), size - 1)  # rounding may give the size itself
            index.append(whole)
            parts.append((place - whole.astype(np.float32))[..., None])
        width = self._size[1] + 1
        corner = index[0] * width + index[1]
        upper, right_upper, lower, right_lower = (
            self._flat.take(corner + step, axis=0, mode="clip") for step in (0, 1, width, width + 1)
        )
        down, right = parts
        upper += right * (right_upper - upper)
        lower += right * (right_lower - lower)
        upper += down * (lower - upper)
        return upper

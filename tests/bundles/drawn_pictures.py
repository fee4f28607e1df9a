"""Drawn pictures of what trained weights were trained on: simple ones, that they have to get right."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

__all__ = ["colon_polyp", "ultrasound_lesion"]


def ultrasound_lesion(seed: int, size: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Draw a dark ellipse in layered, speckled tissue, which is brighter behind it.

    Returns:
        The picture (size, size, 3) in 0..255 and the lesion (size, size), bool.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    centre, radii = (
        (rng.uniform(0.35, 0.55), rng.uniform(0.35, 0.65)),
        (rng.uniform(0.1, 0.16), rng.uniform(0.16, 0.25)),
    )
    inside = ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 < 1
    tissue = 0.45 + 0.18 * np.sin(14 * y + 2 * np.sin(4 * x)) * np.exp(-2 * y)
    tissue = ndimage.gaussian_filter(np.where(inside, 0.12, tissue), size / 100)
    behind = (np.abs(x - centre[1]) < 0.8 * radii[1]) & (y > centre[0] + radii[0])
    speckle = ndimage.gaussian_filter(rng.rayleigh(1, (size, size)), size / 210)
    picture = tissue * np.where(behind, 1.25, 1.0) * speckle / speckle.mean() * (1 - 0.35 * y)
    return _bytes(np.repeat(picture[..., None], 3, axis=-1)), inside


def colon_polyp(seed: int, size: tuple[int, int] = (288, 384)) -> tuple[np.ndarray, np.ndarray]:
    """Draw a lit dome, paler and redder than the wall that it grows from, in the light of an endoscope.

    Returns:
        The picture (*size, 3) in 0..255 and the polyp (*size), bool.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]] / size[0]
    centre = np.array([rng.uniform(0.4, 0.6), rng.uniform(0.55, 0.8)])
    radius, height = rng.uniform(0.17, 0.25), rng.uniform(0.9, 1.2)
    away = np.hypot(y - centre[0], (x - centre[1]) / height) / radius
    dome, inside = np.sqrt(np.clip(1 - away**2, 0, 1)), away < 1
    folds = 0.08 * np.sin(9 * (x + 0.6 * y) + rng.uniform(0, 6))
    vessels = ndimage.gaussian_filter(rng.standard_normal(size), size[0] / 60)
    wall = 0.62 + folds + 0.04 * vessels / vessels.std()
    # The light comes from the camera: the wall darkens with depth towards the far end, the dome at its rim.
    far = np.exp(-(((y - 0.1) / 0.35) ** 2) - ((x - 0.2) / 0.35) ** 2)
    light = np.where(inside, 0.55 + 0.45 * dome, wall * (1 - 0.8 * far))
    light = light * np.where((away > 1) & (away < 1.25), 0.75, 1.0)  # the shadow round its foot
    light = ndimage.gaussian_filter(light, size[0] / 180)
    tint = np.where(inside[..., None], (0.98, 0.56, 0.48), (0.95, 0.50, 0.36))
    picture = light[..., None] * tint + 0.015 * rng.standard_normal((*size, 1))
    glint = np.hypot(y - centre[0] + 0.4 * radius, x - centre[1] + 0.2 * radius) < 0.08 * radius
    picture[glint] = 1.0
    return _bytes(picture), inside


def _bytes(picture: np.ndarray) -> np.ndarray:
    return (255 * np.clip(picture, 0, 1)).round().astype(np.uint8)

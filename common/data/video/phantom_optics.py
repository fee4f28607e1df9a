"""Lamp, lens, sensor and codec of the video phantom's endoscope."""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage

from common.data.video.phantom_motion import Drift
from common.data.video.phantom_noise import smoothstep
from common.data.video.phantom_surface import Surface

__all__ = ["Optics"]

# JPEG's table of how coarsely each frequency of a block of 8 x 8 pixels is stored (ITU-T T.81, table K.1), shortened
# to the sum of the two frequencies, which is what it mostly follows.
_COARSE = np.float32([13, 12, 13, 17, 24, 34, 48, 58, 66, 76, 86, 95, 100, 103, 101])
_TO_YCC = np.float32([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]])
_FROM_YCC = np.linalg.inv(_TO_YCC).astype(np.float32)


class Optics:
    """One endoscope.

    Args:
        rng: source of its traits.
        pixel: size of a pixel, in half view sizes.
    """

    def __init__(self, rng: np.random.Generator, pixel: float) -> None:
        self._pixel = pixel
        # Some scopes fill the frame and leave only its corners dark.
        self.radius = float(rng.uniform(0.93, 1.3) if rng.random() < 0.7 else rng.uniform(1.4, 1.9))
        self.centre = rng.normal(0, 0.03, 2)
        self._edge, self._falloff = rng.uniform(0.01, 0.03), rng.uniform(0.25, 0.95)
        self._notch = rng.uniform(0, 2 * np.pi) if rng.random() < 0.4 else None
        self._lamp, self._lean = rng.uniform(-0.35, 0.35, 2), [Drift(rng, 0.1, 0.5) for _ in range(2)]
        self._shine, self._tight = rng.uniform(0.4, 1.5), rng.uniform(40.0, 140.0)
        self._shadow = rng.uniform(3.0, 8.0)
        self._tint = np.exp(rng.normal(0, 0.09, 3)).astype(np.float32)
        self._saturation = rng.uniform(0.8, 1.2)
        self._level, self._exposure = rng.uniform(0.15, 0.32), Drift(rng, 0.1, 0.9)
        self._set: float | None = None
        self._swing = rng.uniform(0.03, 0.16)
        self._focus, self._soft = Drift(rng, 0.1, 0.7), (rng.uniform(0.002, 0.005), rng.uniform(0.0, 0.007))
        self._glow = rng.uniform(0.05, 0.25)
        self._sharpen = rng.uniform(0.1, 0.5)
        self._noise = rng.uniform(0.004, 0.018)
        self._black = (rng.uniform(0.0004, 0.004) * np.exp(rng.normal(0, 0.2, 3))).astype(np.float32)
        self._quality = rng.uniform(0.25, 0.9)

    def view(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return what part of each pixel lies in the round field of view, 0 to 1."""
        right, down = x - np.float32(self.centre[0]), y - np.float32(self.centre[1])
        inside = self.radius - np.hypot(right, down)
        if self._notch is not None:
            cosine, sine = np.float32(np.cos(self._notch)), np.float32(np.sin(self._notch))
            along, across = cosine * right + sine * down, np.abs(cosine * down - sine * right)
            inside = np.minimum(inside, 0.7 * (self.radius - 0.07 - along + 0.9 * across))
        edge = max(self._edge, self._pixel)
        return smoothstep(inside, -edge, edge)

    def light(self, surface: Surface, x: np.ndarray, y: np.ndarray, frame: float) -> np.ndarray:
        """Return the light that the surface gives back, shape (H, W, 3)."""
        height, gloss = (channel.reshape(x.shape) for channel in (surface.height, surface.gloss))
        down, right = np.gradient(height, np.float32(self._pixel))
        up = 1 / np.sqrt(1 + right**2 + down**2)
        lean = [a + 0.08 * drift(frame) for a, drift in zip(self._lamp, self._lean, strict=True)]
        # Lamp and lens sit side by side at the tip: rays spread from about two half view sizes above the tissue.
        rays = [np.float32(lean[0]) - 0.45 * x, np.float32(lean[1]) - 0.45 * y]
        length = np.sqrt(1 + rays[0] ** 2 + rays[1] ** 2)
        facing = np.clip((1 - right * rays[0] - down * rays[1]) * up / length, 0, 1)
        around = ndimage.gaussian_filter(height, 0.07 / self._pixel, truncate=2, mode="nearest")
        open_sky = np.exp(-self._shadow * np.clip(around - height, 0, None))
        spot = 1 / (1 + self._falloff * ((x - lean[0]) ** 2 + (y - lean[1]) ** 2)) ** 1.5
        strength = (0.25 + 0.75 * facing) * open_sky * spot * (1 + 0.8 * height)
        half = [(ray - 0.45 * place) / 2 for ray, place in zip(rays, (x, y), strict=True)]
        mirror = (1 - right * half[0] - down * half[1]) * up / np.sqrt(1 + half[0] ** 2 + half[1] ** 2)
        shine = self._shine * gloss * np.clip(mirror, 0, 1) ** self._tight * spot * open_sky
        return surface.colour.reshape(*x.shape, 3) * strength[..., None] + shine[..., None]

    def develop(
        self, light: np.ndarray, view: np.ndarray, motion: tuple[float, float], frame: float, rng: np.random.Generator
    ) -> np.ndarray:
        """Turn light into a frame of the video; frames are to be developed in order, as the exposure follows them.

        Args:
            light: shape (H, W, 3).
            view: the field of view, shape (H, W).
            motion: how far the image moves while the shutter is open, in half view sizes.
            frame: the time.
            rng: source of the sensor's noise.

        Returns:
            uint8 of shape (H, W, 3).
        """
        light = _smear(light, motion, self._pixel)
        sigma = (self._soft[0] + self._soft[1] * max(0.0, self._focus(frame))) / self._pixel
        if sigma > 0.25:
            light = ndimage.gaussian_filter(light, (sigma, sigma, 0), truncate=3, mode="nearest")
        # Light that is scattered in the lens and in the water lies over everything as a glow.
        glow = ndimage.gaussian_filter(light[::4, ::4], (0.05 / self._pixel, 0.05 / self._pixel, 0), truncate=2)
        glow = np.repeat(np.repeat(glow, 4, axis=0), 4, axis=1)[: light.shape[0], : light.shape[1]]
        light = light + np.float32(self._glow) * (glow - light)
        gain = self._gain(light, view) * np.exp(self._swing * self._exposure(frame))
        light = light * (np.float32(gain) * self._tint) * view[..., None] + self._black
        light = light + np.float32(self._noise) * np.sqrt(light + 0.0005) * _grain(rng, light.shape)
        # Highlights are rolled off, not cut.
        light = np.clip(light, 0, None)
        light = np.where(light > 0.7, 0.7 + 0.3 * np.tanh((light - 0.7) / 0.3), light)
        image = _TO_YCC @ np.moveaxis(light ** np.float32(1 / 2.2), 2, 0).reshape(3, -1)
        image = image.reshape(3, *light.shape[:2])
        image[1:] *= np.float32(self._saturation)
        image[0] += np.float32(self._sharpen) * (image[0] - ndimage.gaussian_filter(image[0], 1.2, truncate=2))
        image = np.stack([_store(image[0], self._quality, 1), *(_store(c, self._quality, 2) for c in image[1:])])
        image = np.moveaxis((_FROM_YCC @ image.reshape(3, -1)).reshape(3, *light.shape[:2]), 0, 2)
        return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)

    def _gain(self, light: np.ndarray, view: np.ndarray) -> float:
        """Return the exposure: it follows the light of the frames so far with a lag, as an endoscope's control does."""
        wanted = self._level / float((light.mean(axis=2) * view).sum() / view.sum())
        self._set = wanted if self._set is None else self._set * (wanted / self._set) ** 0.15
        return self._set


def _grain(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return sensor noise; colours share part of it, neighbours too, as a colour filter makes them."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise[..., 0] = 0.7 * noise[..., 0] + 0.7 * noise[..., 1]
    noise[..., 2] = 0.8 * noise[..., 2] + 0.6 * noise[..., 1]
    noise += 0.6 * np.roll(noise, 1, axis=1)
    return noise


def _smear(light: np.ndarray, motion: tuple[float, float], pixel: float) -> np.ndarray:
    """Return the mean over a straight motion, about its middle."""
    right, down = (part / pixel for part in motion)
    taps = min(9, int(np.hypot(right, down)) + 1)
    if taps == 1:
        return light
    total = np.zeros_like(light)
    for part in np.linspace(-0.5, 0.5, taps):
        total += np.roll(light, (round(part * down), round(part * right)), axis=(0, 1))
    return total / taps


def _store(channel: np.ndarray, quality: float, step: int) -> np.ndarray:
    """Return a channel as a video codec keeps it: at a part of its size, in blocks, without faint detail."""
    rows, columns = channel.shape
    block = 8 * step
    full = np.pad(channel, ((0, -rows % block), (0, -columns % block)), mode="edge")
    if step == 2:
        full = full.reshape(full.shape[0] // 2, 2, full.shape[1] // 2, 2).mean(axis=(1, 3))
    blocks = full.reshape(full.shape[0] // 8, 8, full.shape[1] // 8, 8)
    spectrum = fft.dctn(blocks, axes=(1, 3), norm="ortho")
    index = np.arange(8)
    coarse = (_COARSE[index[:, None] + index] * np.float32((1.05 - quality) * 0.6 / 255))[None, :, None, :]
    full = fft.idctn(np.rint(spectrum / coarse) * coarse, axes=(1, 3), norm="ortho").reshape(full.shape)
    if step == 2:
        full = ndimage.zoom(full, 2, order=1, grid_mode=True, mode="nearest")
    return full[:rows, :columns].astype(np.float32)

"""What each tissue of the spine phantom looks like in a T1- or T2-weighted scan, and what the scanner adds to it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

__all__ = ["CONTRASTS", "TissueSignal", "acquire", "smooth_noise"]

CONTRASTS = ("T1", "T2")

# Mean signal and its variation from case to case, as a part of the mean; fat in T1 is 1.
_SIGNAL: dict[str, dict[str, tuple[float, float]]] = {
    "T1": {
        "fat": (1.00, 0.06),
        "marrow": (0.52, 0.20),
        "nucleus": (0.38, 0.12),
        "worn nucleus": (0.34, 0.12),
        "annulus": (0.28, 0.12),
        "cortex": (0.10, 0.25),
        "ligament": (0.14, 0.25),
        "fluid": (0.17, 0.20),
        "cord": (0.36, 0.10),
        "muscle": (0.31, 0.12),
        "vein": (0.36, 0.20),
        "flow": (0.07, 0.40),
        "organ": (0.36, 0.20),
        "bowel": (0.30, 0.30),
        "skin": (0.45, 0.20),
        "haemangioma": (0.92, 0.10),
        "oedema": (0.30, 0.15),
        "fatty marrow": (0.85, 0.08),
    },
    "T2": {
        "fat": (0.82, 0.10),
        "marrow": (0.36, 0.20),
        "nucleus": (0.66, 0.20),
        "worn nucleus": (0.20, 0.25),
        "annulus": (0.12, 0.25),
        "cortex": (0.06, 0.30),
        "ligament": (0.08, 0.30),
        "fluid": (1.02, 0.10),
        "cord": (0.40, 0.12),
        "muscle": (0.17, 0.20),
        "vein": (0.56, 0.20),
        "flow": (0.05, 0.50),
        "organ": (0.26, 0.25),
        "bowel": (0.45, 0.45),
        "skin": (0.35, 0.20),
        "haemangioma": (0.85, 0.12),
        "oedema": (0.62, 0.15),
        "fatty marrow": (0.60, 0.10),
    },
}


class TissueSignal:
    """Signal of each tissue in one case.

    Args:
        contrast: ``T1`` or ``T2``.
        rng: source of the case's own deviation from the mean.
    """

    def __init__(self, contrast: str, rng: np.random.Generator) -> None:
        self._rng = rng
        self._level = {name: mean * self._around(spread) for name, (mean, spread) in _SIGNAL[contrast].items()}

    def _around(self, spread: float) -> float:
        return float(np.exp(spread * np.clip(self._rng.standard_normal(), -2.0, 2.0)))

    def of(self, tissue: str, spread: float = 0.0) -> float:
        """Return a tissue's signal.

        Args:
            tissue: name in the table above.
            spread: how much one structure differs from the next of the same tissue, as a part of the signal.
        """
        return self._level[tissue] * (self._around(spread) if spread else 1.0)


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int, int], spacing: tuple[float, ...], scale: tuple[float, ...]
) -> np.ndarray:
    """Return noise of unit variance whose grains have a given size.

    Args:
        rng: source of the noise.
        shape: shape of the result.
        spacing: voxel size along each axis, mm.
        scale: standard deviation of the smoothing kernel along each axis, mm.

    Returns:
        Array of that shape, float32, mean about 0 and standard deviation 1.
    """
    sigma = [mm / step for mm, step in zip(scale, spacing, strict=True)]
    # Coarse grains are drawn on a coarse grid: a tenth of the time, and no difference that shows.
    step = [max(1, int(value)) for value in sigma]
    coarse = [-(-size // by) + 2 for size, by in zip(shape, step, strict=True)]
    noise = rng.standard_normal(coarse, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, [value / by for value, by in zip(sigma, step, strict=True)], mode="wrap")
    noise = (noise - noise.mean()) / noise.std()
    for axis, by in enumerate(step):
        if by > 1:
            at = np.arange(shape[axis], dtype=np.float32) / by
            low = at.astype(np.intp)
            part = (at - low).reshape([-1 if a == axis else 1 for a in range(3)])
            below, above = np.take(noise, low, axis), np.take(noise, low + 1, axis)
            noise = below + part * (above - below)
        else:
            noise = np.take(noise, np.arange(shape[axis]), axis)
    return noise


def acquire(
    signal: np.ndarray, back_distance: np.ndarray, spacing: tuple[float, float, float], rng: np.random.Generator
) -> np.ndarray:
    """Turn the ideal signal into a scan: slice profile, in-plane blur, coil profile, Rician noise, integers.

    Args:
        signal: ideal signal, float32 of shape (slices, rows, columns), fat about 1; changed in place.
        back_distance: distance of every row and column from the skin of the back, mm, positive inside the body,
            float32 of shape (rows, columns).
        spacing: distance of slices, rows and columns, mm.
        rng: source of blur, coil profile and noise.

    Returns:
        Scan of the same shape, float32 holding integers from 0 to about 1500.
    """
    slices, rows, columns = signal.shape
    spill = rng.uniform(0.04, 0.12)  # neighbouring slices overlap because slice profiles are not rectangular
    mixed = ndimage.convolve1d(signal, [spill, 1 - 2 * spill, spill], axis=0, mode="nearest")
    blur = rng.uniform(0.45, 0.85) / np.array(spacing[1:])
    mixed = ndimage.gaussian_filter(mixed, (0, *np.minimum(blur, 0.8)), truncate=3.0)

    # The spine coil lies under the back, so signal falls with the distance from it; scanners correct part of that.
    reach, rest = rng.uniform(90.0, 260.0), rng.uniform(0.15, 0.45)
    coil = rest + (1 - rest) * np.exp(-np.clip(back_distance, -20, None) / reach)
    along = np.linspace(-1.0, 1.0, rows, dtype=np.float32)[:, None] - rng.uniform(-0.3, 0.3)
    coil = coil * (1 - rng.uniform(0.05, 0.35) * along**2)  # the coil's elements end above and below
    if rng.random() < 0.5:  # a saturation band over the belly stops its motion from ghosting over the spine
        edge = rng.uniform(115.0, 150.0)
        coil = coil * (1 - rng.uniform(0.4, 0.8) / (1 + np.exp(-(back_distance - edge) / rng.uniform(4.0, 12.0))))
    waves = smooth_noise(rng, (slices, rows, columns), spacing, (40.0, 60.0, 60.0))
    field = coil.astype(np.float32) * (1 + 0.05 * np.clip(waves, -2, 2))
    mixed = mixed * field

    level = np.float32(rng.uniform(0.006, 0.022) * coil.mean() / 0.5)
    real = mixed + level * rng.standard_normal(mixed.shape, dtype=np.float32)
    imaginary = level * rng.standard_normal(mixed.shape, dtype=np.float32)
    scan = np.sqrt(real * real + imaginary * imaginary)
    scan *= rng.uniform(700.0, 1300.0) / np.percentile(scan[:, ::4, ::4], 99.5)
    return np.rint(np.minimum(scan, 4095.0)).astype(np.float32)

"""The soft tissue around a phantom's spine: fat, muscle, vessels, belly."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from common.data.phantom_anatomy import Canvas
from common.data.phantom_geometry import Spine
from common.data.phantom_signal import TissueSignal, smooth_noise

__all__ = ["back_skin", "paint_body"]


def back_skin(spine: Spine, up: np.ndarray, fatness: float) -> tuple[np.ndarray, np.ndarray]:
    """Return where the back's skin lies and how much fat is under it.

    Args:
        spine: the spine.
        up: superior position of each row, mm, shape (rows,).
        fatness: 0 for a lean person to 1.

    Returns:
        Anterior position of the skin, mm, and thickness of the fat, mm, both of shape (rows,).
    """
    height = np.arange(spine.curve[:, 1].min(), spine.curve[:, 1].max(), 2.0)
    order = np.argsort(spine.curve[:, 1])
    ahead = np.interp(height, spine.curve[order, 1], spine.curve[order, 0])
    fat = 5 + 9 * fatness + (14 + 30 * fatness) * np.exp(-np.square((height + 45) / 55.0))
    skin = np.minimum(ndimage.gaussian_filter1d(ahead, 22.0, mode="nearest") - 56 * spine.scale, ahead - 48) - fat
    skin = ndimage.gaussian_filter1d(skin, 9.0, mode="nearest")
    return np.interp(up, height, skin), np.interp(up, height, fat)


def paint_body(
    canvas: Canvas,
    spine: Spine,
    tissue: TissueSignal,
    rng: np.random.Generator,
    up: np.ndarray,
    ahead: np.ndarray,
    spacing: tuple[float, float, float],
    fatness: float,
) -> np.ndarray:
    """Paint everything but the spine.

    Args:
        canvas: what is painted, empty so far.
        spine: shape of the spine.
        tissue: signal of each tissue.
        rng: source of shapes.
        up: superior position of each row, mm.
        ahead: anterior position of each column, mm.
        spacing: distance of slices, rows and columns, mm.
        fatness: 0 for a lean person to 1.

    Returns:
        Distance of every row and column from the skin of the back, mm, positive inside, float32 of shape
        (rows, columns).
    """
    everything = (slice(None),) * 3
    along, front, side = canvas.where.along, canvas.where.front, canvas.where.side
    out, shape = np.abs(side), along.shape
    skin, layer = back_skin(spine, up, fatness)
    back = (ahead[None, :] - skin[:, None]).astype(np.float32)
    layer = layer[:, None].astype(np.float32)
    depth = rng.uniform(175, 205) + 60 * fatness
    belly = depth + 16 * np.sin((up - rng.uniform(-40, 60)) / rng.uniform(50, 80)) - 0.12 * np.abs(up - 60)
    from_front = (
        belly[:, None] + ndimage.gaussian_filter1d(skin, 30.0, mode="nearest")[:, None] - ahead[None, :]
    ).astype(np.float32)
    lumps = smooth_noise(rng, shape, spacing, (9.0, 9.0, 9.0))
    fat = tissue.of("fat")
    canvas.signal[:] = fat * (1 + 0.04 * canvas.cloud + 0.02 * canvas.grain)
    furrow = 5 * np.exp(-np.square(side / 14.0))
    inside = np.minimum(back - furrow, from_front)

    # Belly: bowel, mesentery and organs within the wall.
    wall = 12 + 22 * fatness
    hollow = np.maximum(45 * spine.scale - front, wall - from_front)
    bowel = np.clip((np.abs(lumps) - 0.45) * 4, 0, 1)
    content = tissue.of("bowel") * np.clip(1 + 0.5 * np.roll(lumps, 7, axis=1) + 0.15 * canvas.cloud, 0.1, 2.2)
    canvas.paint(everything, np.maximum(hollow, -1 - bowel * 3 + 2), content, 0.9)
    gas = np.clip((lumps - 1.7) * 3, 0, 1)
    canvas.paint(everything, np.maximum(hollow, 1 - 3 * gas), 0.02)
    organ_low = spine.at(spine.bodies[4].bottom)[1] + rng.uniform(-20, 60)
    dome = np.hypot(up[:, None] - organ_low - 70, (ahead[None, :] - skin[:, None] - 160) / 0.9)
    organ = np.maximum(dome.astype(np.float32) - 62 + 5 * lumps, hollow)
    canvas.paint(everything, organ, tissue.of("organ") * (1 + 0.06 * canvas.cloud + 0.03 * canvas.grain))
    rectus = np.abs(from_front - wall + 4) - 3.5 + 0 * side
    canvas.paint(everything, rectus, tissue.of("muscle"))

    # Muscles of the back, streaked with fat, more so low down and in the fat.
    share = np.clip(0.5 * canvas.streak + 0.25 * canvas.cloud - 0.9 + 0.8 * fatness - 0.004 * along, 0, 0.85)
    muscle = tissue.of("muscle") * (1 + 0.08 * canvas.grain)
    erector = np.maximum(np.maximum(front + 16, layer - back + furrow), 2.5 - out)
    canvas.paint(everything, erector, muscle + share * (fat * 0.9 - muscle))
    fascia = np.abs(back - furrow - layer) - 0.6
    canvas.paint(everything, fascia, tissue.of("ligament"), 0.8)

    # Psoas beside the bodies, growing downwards.
    grow = np.clip(1.15 - along / 190, 0.2, 1.2)
    psoas = np.hypot((out - 33 - 10 * grow) / (14 * grow), (front - 14) / (17 * grow)) - 1
    psoas = np.maximum(psoas * 12, along - spine.bodies[4].top)
    canvas.paint(everything, psoas, tissue.of("muscle") * (1 + 0.07 * canvas.grain + 0.05 * canvas.streak))

    # Great vessels; both divide in front of L4 and L5. Moving blood gives no signal.
    fork = spine.bodies[1].bottom
    spread = np.clip(fork - along, 0, None)
    ahead_of = np.interp(along, [-60, 0, 120, 220], [30, 37, 37, 36]).astype(np.float32) * np.float32(spine.scale)
    radius = rng.uniform(7.0, 9.5)
    wander = 3 * np.sin(along / 45 + rng.uniform(0, 6))
    for start, reach, size in ((-7.0, 0.55, radius), (15.0, 0.5, radius * 1.15)):
        for direction in (-1, 1):
            thin = np.where(spread > 0, size * 0.7, size)
            vessel = np.hypot(
                side - start - direction * reach * spread - wander, (front - ahead_of - size - 1.5) * 1.15
            )
            canvas.paint(everything, vessel - thin - 1.0, tissue.of("cortex"), 0.5)
            canvas.paint(everything, vessel - thin, tissue.of("flow") * (1 + 0.5 * np.abs(canvas.cloud)))

    canvas.paint(everything, np.abs(inside - 0.8) - 0.9, tissue.of("skin"))
    canvas.paint(everything, inside, 0.0)
    return back

"""The soft tissue around a phantom's spine: fat, muscle, vessels, belly."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from common.data.phantom_canvas import Canvas
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
    belly = depth + 16 * np.sin((up - rng.uniform(-40, 60)) / rng.uniform(50, 80)) - 0.15 * np.hypot(up - 60, 50)
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
    near = np.exp(-np.square((front + 26) / 9.0)) + np.exp(-np.square(out / 4.0))  # most beside the arches
    share = 0.5 * canvas.streak + 0.3 * canvas.cloud - 0.8 + 0.9 * fatness + 0.55 * near - 0.003 * along
    share = np.clip(share, 0, 0.85)
    muscle = tissue.of("muscle") * (1 + 0.08 * canvas.grain + 0.1 * canvas.streak)
    erector = np.maximum(np.maximum(front + 16, layer - back + furrow), 2.5 - out)
    canvas.paint(everything, erector, muscle + share * (fat * 0.9 - muscle))
    fascia = np.abs(back - furrow - layer) - 0.6
    canvas.paint(everything, fascia, tissue.of("ligament"), 0.8)

    _paint_psoas(canvas, spine, tissue)
    _paint_vessels(canvas, spine, tissue, rng)
    canvas.paint(everything, np.abs(inside - 0.8) - 0.9, tissue.of("skin"))
    canvas.paint(everything, inside, 0.0)
    return back


def _paint_psoas(canvas: Canvas, spine: Spine, tissue: TissueSignal) -> None:
    """Paint what lies beside the bodies: psoas, growing downwards, and above it crura, pleura and vessels in fat."""
    w = canvas.window(-120, spine.bodies[-1].top + 30, -20, 45)
    if w is None:
        return
    cloud, streak = canvas.cloud[w.box], canvas.streak[w.box]
    _, width = spine.body_size(w.along)
    out, muscle = np.abs(w.side) - width, tissue.of("muscle")
    top = spine.bodies[4].top
    share = np.clip(0.45 + 0.5 * streak + 0.35 * cloud, 0, 1)
    mixed = tissue.of("fat") * 0.85 + share * (muscle - tissue.of("fat") * 0.85)
    beside = np.maximum(np.maximum(1.5 - out, top - 20 - w.along), np.abs(w.front - 14) - 20)
    canvas.paint(w.box, beside + cloud, mixed, 0.85)
    grow = np.clip(1.15 - w.along / 210, 0.3, 1.2)
    psoas = np.hypot((out - 1 - 13.5 * grow) / (13 * grow), (w.front - 13) / (18 * grow)) - 1
    texture = 1 + 0.07 * canvas.grain[w.box] + 0.1 * streak
    canvas.paint(w.box, np.maximum(psoas * 12, w.along - top) + 0.4 * cloud, muscle * texture)


def _paint_vessels(canvas: Canvas, spine: Spine, tissue: TissueSignal, rng: np.random.Generator) -> None:
    """Paint aorta and vena cava, which divide in front of L4 and L5. Moving blood gives no signal."""
    radius, phase = rng.uniform(7.0, 9.5), rng.uniform(0.0, 6.0)
    w = canvas.window(-100, spine.bodies[-1].top + 30, 15, 75)
    if w is None:
        return
    spread = np.clip(spine.bodies[1].bottom - w.along, 0, None)
    ahead = spine.body_size(w.along)[0] + 2 - 9 * np.clip(-w.along / 60, 0, 1)
    wander = 3 * np.sin(w.along / 45 + np.float32(phase))
    blood = tissue.of("flow") * (1 + 0.5 * np.abs(canvas.cloud[w.box]))
    for start, reach, size in ((-7.0, 0.55, radius), (15.0, 0.5, radius * 1.15)):
        thin = size * (1 - 0.3 * np.clip(spread / 18, 0, 1))
        for direction in (-1, 1):
            middle = start + direction * reach * spread + wander
            vessel = np.hypot(w.side - middle, (w.front - ahead - size - 1.5) * 1.15) - thin
            canvas.paint(w.box, vessel - 1.0, tissue.of("cortex"), 0.5)
            canvas.paint(w.box, vessel, blood)

"""The phantom's spinal canal and the arches around it."""

from __future__ import annotations

import numpy as np

from common.data.phantom_canvas import Canvas, Window, ellipse, rounded
from common.data.phantom_geometry import Spine
from common.data.phantom_signal import TissueSignal

__all__ = ["paint_arch", "paint_canal"]


def paint_canal(canvas: Canvas, spine: Spine, tissue: TissueSignal, rng: np.random.Generator) -> None:
    """Paint the spinal canal: fat, the sac of fluid with the nerve roots, and the cord, which ends at T12 to L1.

    Args:
        canvas: what is painted.
        spine: shape of the spine.
        tissue: signal of each tissue.
        rng: source of sizes.
    """
    end = spine.sacrum[1].bottom + rng.uniform(0, 20)
    conus = spine.bodies[rng.choice([4, 5, 5])].bottom + rng.uniform(0, 20)
    rx, ry = rng.uniform(8.5, 10.5) * spine.scale, rng.uniform(6.3, 7.8) * spine.scale
    w = canvas.window(end - 40, spine.bodies[-1].top + 30, -24, 3)
    if w is None:
        return
    grain = canvas.grain[w.box]
    fat = tissue.of("fat", 0.04)
    space = ellipse((w.front + 9.5, 9.5), (w.side, 12.5))
    canvas.paint(w.box, np.maximum(space, end - 45 - w.along), fat * (1 + 0.04 * grain))
    # The sac lies against the bodies, leaves them at L5 and ends at S2, in fat.
    taper = np.clip((w.along - end) / 45.0, 0.0, 1.0)
    size = np.sqrt(np.clip(taper * 1.6, 0.02, 1))
    centre = -(1.5 + ry) - 3.0 * np.clip(1 - (w.along + 10) / 40.0, 0, 1)
    sac = ellipse(((w.front - centre) / size, ry), (w.side / size, rx))
    canvas.paint(w.box, sac - 0.6, tissue.of("ligament"), 0.8)
    fluid = tissue.of("fluid")
    flow = 1 - 0.05 * np.abs(canvas.cloud[w.box])
    canvas.paint(w.box, sac + 0.5, fluid * flow)
    # Nerve roots float to the back of a person who lies on it.
    roots = np.clip(0.9 * canvas.streak[w.box] + 0.25, 0, 1) * np.clip((centre - 0.5 - w.front) / 2.5, 0, 1)
    roots = roots * np.clip((conus + 10 - w.along) / 10, 0, 1) * np.clip((w.along + 5) / 80, 0.25, 1)
    cord = tissue.of("cord")
    canvas.paint(w.box, sac + 1.2, fluid * flow + 0.75 * roots * (cord - fluid * flow))
    thick = np.clip((w.along - conus) / 28.0, 0.0, 1.0) ** 0.6
    core = ellipse(((w.front - centre + 0.8) / np.maximum(thick, 0.05), 3.9), (w.side / np.maximum(thick, 0.05), 5.2))
    canvas.paint(w.box, np.maximum(core, conus - w.along), cord * (1 + 0.05 * grain))


def paint_arch(canvas: Canvas, spine: Spine, i: int, tissue: TissueSignal, rng: np.random.Generator) -> None:
    """Paint what lies behind a body: pedicles, facet joints, laminae, spinous process, ligaments; none is labelled.

    Args:
        canvas: what is painted.
        spine: shape of the spine.
        i: which of ``spine.bodies``.
        tissue: signal of each tissue.
        rng: source of sizes.
    """
    body = spine.bodies[i]
    k = np.float32(spine.scale)
    chest = min(max(i - 4, 0) / 3.0, 1.0)  # thoracic processes slant and are thin
    marrow, size, lean = tissue.of("marrow", 0.06), rng.normal(1.0, 0.07, 3), rng.normal(0.0, 2.0)
    w = canvas.window(body.bottom - 30, body.top + 10, -66, 8)
    if w is None:
        return
    grain, cloud = canvas.grain[w.box], canvas.cloud[w.box]
    # Nothing here is as smooth as an ellipse.
    bumps = np.roll(cloud, 9, axis=2)
    w = Window(w.box, w.along + 1.3 * cloud, w.front + 1.1 * bumps, w.side)
    middle, tall, out = (body.bottom + body.top) / 2, body.top - body.bottom, np.abs(w.side)
    fat, cortex = tissue.of("fat", 0.05), tissue.of("cortex")
    inner = marrow * (1.15 + 0.1 * grain + 0.15 * bumps)
    # The foramen below the pedicle: fat around the nerve root and its vessels.
    gap = ellipse((w.along - body.bottom + 1, 0.62 * tall), (w.front + 5, 9.0), (out - 17 * k, 8.0))
    share = np.clip(0.4 * bumps + 0.3 * canvas.streak[w.box] - 0.05, 0, 0.7)
    canvas.paint(w.box, gap, fat + share * (tissue.of("muscle") - fat), 0.95)
    for down, ahead, radius in ((1.5, -4.0, 2.7), (-2.5, 0.5, 1.4), (-7.0, -5.0, 1.2)):
        root = ellipse((w.along - body.bottom - down, radius), (w.front - ahead, radius), (out - 18 * k, 12.0))
        canvas.paint(w.box, root, tissue.of("muscle", 0.1))
    # The yellow ligament runs from lamina to lamina behind the sac.
    yellow = np.maximum(
        np.abs(w.front + 17.5 - 0.25 * out) - 1.8, np.maximum(out - 13, np.abs(w.along - body.bottom + 4) - 15)
    )
    canvas.paint(w.box, yellow, tissue.of("ligament"), 0.85)
    pads = ellipse((w.along - body.bottom + 2, 8.0), (w.front + 17.0, 3.2), (w.side, 5.0))
    canvas.paint(w.box, pads, fat)

    slant = 0.15 + 0.75 * chest
    drop = w.along - middle - slant * (w.front + 20)  # height against a plane that falls towards the back
    pedicle = rounded(
        np.hypot((w.along - middle - 0.17 * tall) / 1.15, out - (13.5 + 2 * (1 - chest)) * k) - 5.4 * k * size[0],
        np.maximum(w.front - 4, -18 - w.front),
        2.0,
    )
    upper = ellipse((w.along - body.top + 1 + 0.25 * (w.front + 19), 12.0), (w.front + 17.5, 4.5), (out - 17 * k, 5.5))
    lower = ellipse(
        (w.along - body.bottom - 2 + 0.3 * (w.front + 26), 16.0), (w.front + 24.5, 5.2), (out - 15 * k, 5.5)
    )
    lamina = rounded(
        np.abs(w.front + 22.5 - 0.25 * out + 0.22 * (middle - 6 - w.along)) - 3.2,
        np.maximum(np.abs(w.along - middle + 7) - 10, out - 15),
        2.0,
    )
    length = (30.0 - 3 * chest) * k * size[1]
    process = rounded(
        np.maximum(np.abs(drop + 8 + lean + 2.5 * chest) - (10.5 - 4.5 * chest) * size[2], out - 3.6),
        np.abs(w.front + 24 + length / 2) - length / 2,
        3.0,
    )
    # What lies between this process and the next is ligament with fat in it.
    between = np.maximum(np.maximum(out - 3.0, np.abs(w.along - body.bottom + 9) - 18), np.abs(w.front + 35) - 13)
    mixed = np.clip(0.45 + 0.35 * cloud + 0.2 * canvas.streak[w.box], 0, 1)
    canvas.paint(w.box, between, tissue.of("ligament") + mixed * (fat * 0.8 - tissue.of("ligament")), 0.9)
    # Transverse processes, in the chest the ribs' heads, seen end on in the outer slices.
    across = np.hypot((w.along - middle - 0.1 * tall) / 1.3, w.front + 14 - 6 * chest) - 4.5
    across = np.maximum(across, 19 * k - out)
    for bone in (across, upper, lower, pedicle, lamina, process):
        canvas.paint(w.box, bone - 0.4 + 0.3 * cloud, cortex, 0.75)
        canvas.paint(w.box, bone + 1.0, inner)
    if chest < 0.5:
        joint = ellipse((w.along - body.top + 2, 7.0), (w.front + 21.5, 0.9), (out - 16.5 * k, 5.0))
        canvas.paint(w.box, joint, tissue.of("fluid"), 0.6 * float(size[0] > 0.95))

"""The phantom's vertebral bodies, discs and sacrum: the parts that carry labels."""

from __future__ import annotations

import numpy as np

from common.data.phantom_arches import paint_arch, paint_canal
from common.data.phantom_canvas import Canvas, Window, ellipse, rounded
from common.data.phantom_geometry import Part, Spine
from common.data.phantom_signal import TissueSignal

__all__ = ["paint_spine"]


class _Plates:
    """End plates: the height of every face between a disc and a body as a function of place."""

    def __init__(self, spine: Spine, rng: np.random.Generator) -> None:
        self._spine = spine
        self._shape = {}
        worn = {round(d.bottom, 3): d.wear for d in spine.discs} | {round(d.top, 3): d.wear for d in spine.discs}
        for body in (spine.sacrum[0], *spine.bodies):
            bend = self._bend(body)
            for top, face in ((False, body.bottom), (True, body.top)):
                if body.value == 1 and not top:
                    continue
                # Bodies are less wedged than the spine is bent: the rest of the bend is the discs'.
                wedge = rng.normal(0.5, 0.12) * bend / 2 + np.deg2rad(rng.normal(0.0, 1.0))
                if body.value == 2 and not top:
                    wedge *= 0.5  # L5 itself is a wedge
                hollow = rng.uniform(1.5, 3.0) * (1 - 0.5 * worn.get(round(face, 3), 0.0))
                if body.value == 1:
                    hollow *= 0.4
                node = None
                if rng.random() < 0.07:
                    # Schmorl's node: the disc has broken into the body.
                    node = (body.depth * rng.uniform(0.35, 0.7), rng.uniform(-8, 8), rng.uniform(2.0, 4.5))
                self._shape[id(body), top] = (
                    body,
                    face,
                    (1 if top else -1) * wedge,
                    (-1 if top else 1) * hollow,
                    body.depth * (0.5 if top else 0.42),
                    node,
                )

    def _bend(self, body: Part) -> float:
        ends = np.interp([body.bottom, body.top], self._spine.height, self._spine.lean)
        return float(ends[1] - ends[0])

    def height(self, body: Part, top: bool, w: Window) -> np.ndarray:
        """Return the height of a body's face over the window."""
        body, face, wedge, hollow, middle, node = self._shape[id(body), top]
        ahead = w.front - np.float32(body.depth / 2)
        dip = 1 - np.square((w.front - middle) / (body.depth * 0.52)) - np.square(w.side / body.half_width)
        surface = face + np.tan(wedge) * np.clip(ahead, -30, 30) + hollow * np.clip(dip, 0, 1)
        if node is not None:
            at, side, deep = node
            hole = np.exp(-np.square((w.front - at) / 4.5) - np.square((w.side - side) / 6.0))
            surface = surface + np.sign(hollow) * deep * hole
        return surface


def _wall(part: Part, w: Window, waist: np.ndarray | float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return how far out each voxel lies in a part's cross-section (1 on its wall), and the distance from the wall."""
    half = np.float32(part.depth / 2)
    ahead, side = (w.front - half) / half, w.side / (part.half_width * waist)
    ahead = np.where(ahead > 0, ahead / waist, ahead / (0.5 + 0.5 * waist))
    # The posterior wall is hollow in the middle and the whole section is kidney-shaped.
    ahead = ahead - 0.09 * np.clip(1 - side * side, 0, 1) * np.clip(-ahead, 0, 1)
    radius = np.cbrt(np.abs(ahead) ** 3 + np.abs(side) ** 3)
    return radius, (radius - 1) * half


def _paint_body(
    canvas: Canvas, spine: Spine, plates: _Plates, body: Part, tissue: TissueSignal, rng: np.random.Generator
) -> None:
    w = canvas.window(body.bottom, body.top, -3, body.depth + 6)
    waist_depth, vein, marrow = rng.uniform(0.05, 0.11), rng.uniform(0.4, 1.0), tissue.of("marrow", 0.04)
    lesion, band = rng.random(4), rng.random(2)
    rough = rng.uniform(0.05, 0.12)
    if w is None:
        return
    low, high = plates.height(body, False, w), plates.height(body, True, w)
    tall = np.float32(body.top - body.bottom)
    level = np.clip((2 * w.along - low - high) / np.maximum(high - low, 5.0), -1, 1)
    _, wall = _wall(body, w, 1 - waist_depth * (1 - level * level))
    ends = np.maximum(low - w.along, w.along - high)
    distance = rounded(ends, wall, 1.8)
    canvas.mark(w.box, distance, body.value)
    grain, cloud = canvas.grain[w.box], canvas.cloud[w.box]
    canvas.paint(w.box, distance - 0.4 + 0.25 * cloud, tissue.of("cortex"), 0.9)
    inner = marrow * (1 + rough * grain + 0.08 * cloud)
    if band[0] < 0.12:  # marrow beside a worn disc changes (Modic)
        kind = "oedema" if band[1] < 0.35 else "fatty marrow"
        edge = np.clip(1 + ends / (0.22 * tall) + 0.25 * cloud, 0, 1) * (level < 0 if band[1] < 0.5 else level > 0)
        inner = inner + edge * 0.7 * (tissue.of(kind) - inner)
    canvas.paint(w.box, distance + 0.8 + 0.3 * cloud, inner)
    middle = (low + high) / 2
    cleft = ellipse((w.front - 1.0, 10.0 * vein + 2), (w.along - middle, 2.0), (w.side, 9.0))
    canvas.paint(w.box, cleft, tissue.of("vein"), 0.75 * vein)
    if lesion[0] < 0.07:
        spot = ellipse(
            (w.front - body.depth * (0.3 + 0.4 * lesion[1]), 3.5 + 4 * lesion[3]),
            (w.along - middle - (lesion[2] - 0.5) * 8, 3.0 + 4 * lesion[3]),
            (w.side - (lesion[1] - 0.5) * 20, 7.0),
        )
        canvas.paint(
            w.box, np.maximum(spot + 0.8 * cloud, distance + 1.2), tissue.of("haemangioma") * (1 + 0.12 * grain), 0.8
        )


def _paint_disc(
    canvas: Canvas,
    spine: Spine,
    plates: _Plates,
    disc: Part,
    pair: tuple[Part, Part],
    tissue: TissueSignal,
    rng: np.random.Generator,
) -> None:
    w = canvas.window(disc.bottom, disc.top, -8, disc.depth + 10)
    slip, dark, split = rng.random(), tissue.of("annulus"), rng.uniform(0.0, 0.7)
    bright = tissue.of("nucleus", 0.08) * (1 - disc.wear) + tissue.of("worn nucleus", 0.08) * disc.wear
    side, reach = rng.normal(0.0, 7.0), rng.uniform(1.5, 5.0)
    if w is None:
        return
    below, above = plates.height(pair[0], True, w), plates.height(pair[1], False, w)
    radius, wall = _wall(disc, w)
    wall = wall + 1.2 - 1.5 * disc.wear
    if slip < 0.1 + 0.35 * disc.wear:  # a protrusion into the canal
        wall = wall - reach * np.exp(-np.square((w.side - side) / 8.0)) * np.clip(0.5 - w.front / 8.0, 0, 1)
    ends = np.maximum(below - w.along, w.along - above)
    distance = rounded(ends, wall, 1.5)
    canvas.mark(w.box, distance, disc.value)
    canvas.paint(w.box, distance - 0.7, tissue.of("ligament"))
    middle, half = (below + above) / 2, np.maximum((above - below) / 2, 1.5)
    inward = np.maximum(radius / 0.80, np.abs(w.along - middle) / half * 0.85)
    core = np.clip((1.05 - inward) / 0.3, 0, 1)
    cleft = split * np.exp(-np.square((w.along - middle) / 1.1)) * np.clip(1.2 - radius, 0, 0.6)
    inner = dark + core * (1 - cleft) * (bright - dark)
    canvas.paint(w.box, distance + 0.4, inner * (1 + 0.05 * canvas.grain[w.box] + 0.05 * canvas.cloud[w.box]))


def _paint_sacrum(
    canvas: Canvas, spine: Spine, plates: _Plates, tissue: TissueSignal, rng: np.random.Generator
) -> None:
    first, last = spine.sacrum[0], spine.sacrum[-1]
    marrow, remnant = tissue.of("marrow", 0.08), rng.uniform(0.3, 0.9, len(spine.sacrum))
    w = canvas.window(last.bottom, first.top, -26, first.depth + 8)
    if w is None:
        return
    # The sacrum is one bone: depth and width change steadily over its height.
    faces = [last.bottom, *(p.bottom for p in spine.sacrum[-2::-1]), first.top]
    depths = [p.depth for p in spine.sacrum[::-1]]
    widths = [p.half_width for p in spine.sacrum[::-1]]
    depth = np.interp(w.along, faces, [depths[0] * 0.7, *depths[:-1], depths[-1] * 1.02]).astype(np.float32)
    width = np.interp(w.along, faces, [widths[0] * 0.7, *widths[:-1], widths[-1]]).astype(np.float32)
    ahead, side = (w.front - depth / 2) / (depth / 2), w.side / width
    wall = (np.cbrt(np.abs(ahead) ** 3 + np.abs(side) ** 3) - 1) * depth / 2
    high = plates.height(first, True, w)
    inner = marrow * (1 + 0.08 * canvas.grain[w.box] + 0.1 * canvas.cloud[w.box])
    # The wings: bone beside the first three segments, seen in the outer slices; annotators leave it out.
    wing = rounded(np.maximum(w.along - high + 4, spine.sacrum[2].bottom - w.along), width - np.abs(w.side) - 1, 4.0)
    wing = rounded(wing, np.maximum(-2 - w.front, w.front - 0.75 * depth), 5.0)
    canvas.paint(w.box, wing - 0.5, tissue.of("cortex"))
    canvas.paint(w.box, wing + 0.9, inner * 1.05)
    for piece in spine.sacrum[:3]:  # the foramina, with fat and a nerve
        hole = ellipse((w.along - piece.bottom - 3, 5.5), (np.abs(w.side) - width - 2, 5.0), (w.front - 4, 14.0))
        canvas.paint(w.box, hole, tissue.of("fat", 0.05))
        canvas.paint(w.box, hole + 2.8, tissue.of("muscle"))
    # The wall behind the sacral canal, with its row of low spines.
    canal = np.interp(w.along, [last.top, 0.0], [6.0, 17.0]).astype(np.float32)
    spines = 2.5 * np.cos(w.along * np.float32(2 * np.pi / 24.0)) * np.clip(1 - np.abs(w.side) / 8, 0, 1)
    crest = np.abs(w.front + canal + 4 + spines / 2) - 3.5 - spines / 2
    crest = rounded(
        np.maximum(crest, np.abs(w.side) - 0.8 * width), np.maximum(w.along + 6, last.top + 15 - w.along), 2.0
    )
    canvas.paint(w.box, crest + 0.8 * canvas.cloud[w.box] - 0.5, tissue.of("cortex"))
    canvas.paint(w.box, crest + 0.8 * canvas.cloud[w.box] + 0.9, inner)
    distance = rounded(np.maximum(w.along - high, spine.sacrum[-2].bottom - w.along), wall, 2.0)
    coccyx = rounded(np.maximum(w.along - last.top + 2, last.bottom - w.along), wall, 2.0)
    canvas.mark(w.box, distance, 1)
    for bone in (coccyx, distance):
        canvas.paint(w.box, bone - 0.5, tissue.of("cortex"))
        canvas.paint(w.box, bone + 0.9, inner)
    for piece, seen in zip(spine.sacrum[:4], remnant, strict=False):
        across = np.abs(w.along - piece.bottom - 0.05 * (w.front - depth / 2))
        line = np.maximum(across - 0.8 - seen, wall + 1.0)
        canvas.paint(w.box, line, tissue.of("annulus"), 0.6 + 0.3 * seen)
        canvas.paint(w.box, np.maximum(across - 1.2 * seen, wall + 6.0), tissue.of("nucleus"), 0.5 * seen)


def paint_spine(canvas: Canvas, spine: Spine, tissue: TissueSignal, rng: np.random.Generator) -> None:
    """Paint the spine: signal of all its parts, labels of bodies, discs and sacrum.

    Args:
        canvas: what is painted; the soft tissue should be there already.
        spine: shape of the spine.
        tissue: signal of each tissue.
        rng: source of the parts' own shapes; the same numbers are drawn whatever the field of view shows.
    """
    plates = _Plates(spine, rng)
    streams = rng.spawn(4)
    paint_canal(canvas, spine, tissue, streams[0])
    for i in reversed(range(len(spine.bodies))):
        paint_arch(canvas, spine, i, tissue, streams[1])
    _paint_sacrum(canvas, spine, plates, tissue, streams[2])
    below = spine.sacrum[0]
    for disc, body in zip(spine.discs, spine.bodies, strict=True):
        _paint_disc(canvas, spine, plates, disc, (below, body), tissue, streams[3])
        below = body
    for body in spine.bodies:
        _paint_body(canvas, spine, plates, body, tissue, streams[3])

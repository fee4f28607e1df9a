"""The phantom's bones, discs and spinal canal, painted over its soft tissue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.data.phantom_geometry import Part, Spine, SpineCoordinates
from common.data.phantom_signal import TissueSignal

__all__ = ["Canvas", "Window", "paint_spine"]


@dataclass(frozen=True)
class Window:
    """A box of voxels and its coordinates along the spine, mm: the parts are painted in boxes, to save time.

    Attributes:
        box: rows and columns of the box, all slices.
        along: height along the spine.
        front: distance in front of the posterior wall.
        side: distance to the right of the middle.
    """

    box: tuple[slice, slice, slice]
    along: np.ndarray
    front: np.ndarray
    side: np.ndarray


@dataclass
class Canvas:
    """Signal and labels being painted.

    Attributes:
        signal: ideal signal, float32 of shape (slices, rows, columns).
        label: label values, uint8 of the same shape.
        where: coordinates along the spine, mm.
        grain: noise of unit variance, about 1 mm fine, of the same shape.
        cloud: noise of unit variance, about 5 mm fine, of the same shape.
        streak: noise of unit variance in streaks along the spine, of the same shape.
        pixel: size of a pixel in the plane, mm.
    """

    signal: np.ndarray
    label: np.ndarray
    where: SpineCoordinates
    grain: np.ndarray
    cloud: np.ndarray
    streak: np.ndarray
    pixel: float

    def window(self, low: float, high: float, back: float, front: float) -> Window | None:
        """Return the box that holds all voxels between two heights and two depths; None where there are none."""
        middle = self.where.along.shape[0] // 2
        along, ahead = self.where.along[middle], self.where.front[middle]
        inside = (along > low - 8) & (along < high + 8) & (ahead > back - 5) & (ahead < front + 5)
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        if not len(rows):
            return None
        box = (slice(None), slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        return Window(box, self.where.along[box], self.where.front[box], self.where.side[box])

    def paint(self, box: tuple, distance: np.ndarray, value: np.ndarray | float, opacity: float = 1.0) -> None:
        """Paint what lies inside a surface; pixels that the surface cuts are mixed.

        Args:
            box: where to paint.
            distance: distance from the surface, mm, negative inside, of the box's shape.
            value: signal of what is painted.
            opacity: 1 covers what was there.
        """
        part = np.clip(0.5 - distance / self.pixel, 0, 1) * np.float32(opacity)
        target = self.signal[box]
        target += part * (value - target)

    def mark(self, box: tuple, distance: np.ndarray, value: int) -> None:
        """Label the voxels whose middle lies inside a surface."""
        self.label[box][distance < 0] = value


def _ellipse(*axes: tuple[np.ndarray, float]) -> np.ndarray:
    """Return about the distance, mm, from an ellipse, given each axis' offset from its middle and its radius."""
    radius = np.sqrt(sum(np.square(offset / size) for offset, size in axes))
    return (radius - 1) * np.float32(min(size for _, size in axes))


def _rounded(a: np.ndarray, b: np.ndarray, radius: float) -> np.ndarray:
    """Return the distance from where two surfaces overlap, with the edge rounded."""
    a, b = a + radius, b + radius
    return np.minimum(np.maximum(a, b), 0) + np.hypot(np.maximum(a, 0), np.maximum(b, 0)) - np.float32(radius)


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
                wedge = rng.normal(0.65, 0.12) * bend / 2 + np.deg2rad(rng.normal(0.0, 1.0))
                if body.value == 2 and not top:
                    wedge *= 0.5  # L5 itself is a wedge
                hollow = rng.uniform(1.0, 2.6) * (1 - 0.5 * worn.get(round(face, 3), 0.0))
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
    ahead = np.where(ahead > 0, ahead / waist, ahead / (0.5 + 0.5 * np.float32(1) * waist))
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
    radius, wall = _wall(body, w, 1 - waist_depth * (1 - level * level))
    ends = np.maximum(low - w.along, w.along - high)
    distance = _rounded(ends, wall, 1.8)
    canvas.mark(w.box, distance, body.value)
    canvas.paint(w.box, distance - 0.5, tissue.of("cortex"))
    grain, cloud = canvas.grain[w.box], canvas.cloud[w.box]
    inner = marrow * (1 + rough * grain + 0.08 * cloud)
    if band[0] < 0.12:  # marrow beside a worn disc changes (Modic)
        kind = "oedema" if band[1] < 0.35 else "fatty marrow"
        edge = np.clip(1 + ends / (0.22 * tall) + 0.25 * cloud, 0, 1) * (level < 0 if band[1] < 0.5 else level > 0)
        inner = inner + edge * 0.7 * (tissue.of(kind) - inner)
    canvas.paint(w.box, distance + 0.9, inner)
    middle = (low + high) / 2
    cleft = _ellipse((w.front - 1.0, 10.0 * vein + 2), (w.along - middle, 2.0), (w.side, 9.0))
    canvas.paint(w.box, np.maximum(cleft, radius * 0 - 1), tissue.of("vein"), 0.75 * vein)
    if lesion[0] < 0.07:
        spot = _ellipse(
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
    distance = _rounded(ends, wall, 1.5)
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
    w = canvas.window(last.bottom, first.top, -3, first.depth + 8)
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
    wing = _rounded(np.maximum(w.along - high + 4, spine.sacrum[2].bottom - w.along), width - np.abs(w.side) - 1, 4.0)
    wing = _rounded(wing, np.maximum(-2 - w.front, w.front - 0.75 * depth), 5.0)
    canvas.paint(w.box, wing - 0.5, tissue.of("cortex"))
    canvas.paint(w.box, wing + 0.9, inner * 1.05)
    for piece in spine.sacrum[:3]:  # the foramina, with fat and a nerve
        hole = _ellipse((w.along - piece.bottom - 3, 5.5), (np.abs(w.side) - width - 2, 5.0), (w.front - 4, 14.0))
        canvas.paint(w.box, hole, tissue.of("fat", 0.05))
        canvas.paint(w.box, hole + 2.8, tissue.of("muscle"))
    distance = _rounded(np.maximum(w.along - high, spine.sacrum[-2].bottom - w.along), wall, 2.0)
    coccyx = _rounded(np.maximum(w.along - last.top + 2, last.bottom - w.along), wall, 2.0)
    canvas.mark(w.box, distance, 1)
    for bone in (coccyx, distance):
        canvas.paint(w.box, bone - 0.5, tissue.of("cortex"))
        canvas.paint(w.box, bone + 0.9, inner)
    for piece, seen in zip(spine.sacrum[:4], remnant, strict=False):
        across = np.abs(w.along - piece.bottom - 0.05 * (w.front - depth / 2))
        line = np.maximum(across - 0.8 - seen, wall + 1.0)
        canvas.paint(w.box, line, tissue.of("annulus"), 0.6 + 0.3 * seen)
        canvas.paint(w.box, np.maximum(across - 1.2 * seen, wall + 6.0), tissue.of("nucleus"), 0.5 * seen)


def _paint_canal(canvas: Canvas, spine: Spine, tissue: TissueSignal, rng: np.random.Generator) -> None:
    end = spine.sacrum[1].bottom + rng.uniform(0, 20)
    conus = spine.bodies[rng.choice([4, 5, 5])].bottom + rng.uniform(0, 20)
    rx, ry = rng.uniform(8.5, 10.5) * spine.scale, rng.uniform(6.3, 7.8) * spine.scale
    w = canvas.window(end - 40, spine.bodies[-1].top + 30, -24, 3)
    if w is None:
        return
    grain = canvas.grain[w.box]
    fat = tissue.of("fat", 0.04)
    space = _ellipse((w.front + 9.5, 9.5), (w.side, 12.5))
    canvas.paint(w.box, np.maximum(space, sacral_end := end - 45 - w.along), fat * (1 + 0.04 * grain))
    del sacral_end
    # The sac lies against the bodies, leaves them at L5 and ends at S2, in fat.
    taper = np.clip((w.along - end) / 45.0, 0.0, 1.0)
    size = np.sqrt(np.clip(taper * 1.6, 0.02, 1))
    centre = -(1.5 + ry) - 3.0 * np.clip(1 - (w.along + 10) / 40.0, 0, 1)
    sac = _ellipse(((w.front - centre) / size, ry), (w.side / size, rx))
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
    core = _ellipse(((w.front - centre + 0.8) / np.maximum(thick, 0.05), 3.9), (w.side / np.maximum(thick, 0.05), 5.2))
    canvas.paint(w.box, np.maximum(core, conus - w.along), cord * (1 + 0.05 * grain))


def _paint_arch(canvas: Canvas, spine: Spine, i: int, tissue: TissueSignal, rng: np.random.Generator) -> None:
    """Paint what lies behind a body: pedicles, facet joints, laminae, spinous process, ligaments; none is labelled."""
    body = spine.bodies[i]
    k = np.float32(spine.scale)
    chest = min(max(i - 4, 0) / 3.0, 1.0)  # thoracic processes slant and are thin
    marrow, size, lean = tissue.of("marrow", 0.06), rng.normal(1.0, 0.07, 3), rng.normal(0.0, 2.0)
    w = canvas.window(body.bottom - 30, body.top + 10, -66, 8)
    if w is None:
        return
    grain, cloud = canvas.grain[w.box], canvas.cloud[w.box]
    middle, tall, out = (body.bottom + body.top) / 2, body.top - body.bottom, np.abs(w.side)
    fat, cortex = tissue.of("fat", 0.05), tissue.of("cortex")
    inner = marrow * (1.1 + 0.1 * grain + 0.12 * cloud)
    # The foramen below the pedicle: fat around the nerve root and its vessels.
    gap = _ellipse((w.along - body.bottom + 1, 0.62 * tall), (w.front + 5, 9.0), (out - 17 * k, 8.0))
    canvas.paint(w.box, gap, fat)
    for down, ahead, radius in ((1.5, -4.0, 2.7), (-2.5, 0.5, 1.4), (-7.0, -5.0, 1.2)):
        root = _ellipse((w.along - body.bottom - down, radius), (w.front - ahead, radius), (out - 18 * k, 12.0))
        canvas.paint(w.box, root, tissue.of("muscle", 0.1))
    # The yellow ligament runs from lamina to lamina behind the sac.
    yellow = np.maximum(
        np.abs(w.front + 17.5 - 0.25 * out) - 1.8, np.maximum(out - 13, np.abs(w.along - body.bottom + 4) - 15)
    )
    canvas.paint(w.box, yellow, tissue.of("ligament"), 0.85)
    pads = _ellipse((w.along - body.bottom + 2, 8.0), (w.front + 17.0, 3.2), (w.side, 5.0))
    canvas.paint(w.box, pads, fat)

    slant = 0.15 + 0.75 * chest
    drop = w.along - middle - slant * (w.front + 20)  # height against a plane that falls towards the back
    pedicle = _rounded(
        np.hypot((w.along - middle - 0.17 * tall) / 1.15, out - (13.5 + 2 * (1 - chest)) * k) - 5.4 * k * size[0],
        np.maximum(w.front - 4, -18 - w.front),
        2.0,
    )
    upper = _ellipse((w.along - body.top + 1 + 0.25 * (w.front + 19), 12.0), (w.front + 17.5, 4.5), (out - 17 * k, 5.5))
    lower = _ellipse(
        (w.along - body.bottom + 2 + 0.2 * (w.front + 26), 13.0), (w.front + 25.5, 4.8), (out - 15 * k, 5.5)
    )
    lamina = _rounded(
        np.abs(w.front + 22.5 - 0.25 * out + 0.22 * (middle - 6 - w.along)) - 3.2,
        np.maximum(np.abs(w.along - middle + 7) - 10, out - 15),
        2.0,
    )
    length = (30.0 - 3 * chest) * k * size[1]
    process = _rounded(
        np.maximum(np.abs(drop + 8 + lean + 2.5 * chest) - (10.5 - 4.5 * chest) * size[2], out - 3.6),
        np.abs(w.front + 24 + length / 2) - length / 2,
        3.0,
    )
    # What lies between this process and the next is ligament with fat in it.
    between = np.maximum(np.maximum(out - 3.0, np.abs(w.along - body.bottom + 9) - 18), np.abs(w.front + 35) - 13)
    mixed = np.clip(0.45 + 0.35 * cloud + 0.2 * canvas.streak[w.box], 0, 1)
    canvas.paint(w.box, between, tissue.of("ligament") + mixed * (fat * 0.8 - tissue.of("ligament")), 0.9)
    for bone in (upper, lower, pedicle, lamina, process):
        canvas.paint(w.box, bone - 0.4, cortex)
        canvas.paint(w.box, bone + 1.0, inner)
    if chest < 0.5:
        joint = _ellipse((w.along - body.top + 2, 7.0), (w.front + 21.5, 0.9), (out - 16.5 * k, 5.0))
        canvas.paint(w.box, joint, tissue.of("fluid"), 0.6 * float(size[0] > 0.95))


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
    _paint_canal(canvas, spine, tissue, streams[0])
    for i in reversed(range(len(spine.bodies))):
        _paint_arch(canvas, spine, i, tissue, streams[1])
    _paint_sacrum(canvas, spine, plates, tissue, streams[2])
    below = spine.sacrum[0]
    for disc, body in zip(spine.discs, spine.bodies, strict=True):
        _paint_disc(canvas, spine, plates, disc, (below, body), tissue, streams[3])
        below = body
    for body in spine.bodies:
        _paint_body(canvas, spine, plates, body, tissue, streams[3])

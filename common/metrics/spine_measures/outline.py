"""Corners and end plates of vertebral bodies and discs in their mid-sagittal section."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.metrics.spine_measures.faces import Line, find_edges, fit_face
from common.metrics.spine_measures.frames import Frame, unit
from common.metrics.spine_measures.regions import Region
from common.metrics.spine_measures.section import Section, UnmeasurableError, body_frame, cut_section, cut_top

__all__ = ["Outline", "Plate", "find_outline", "find_upper_plate"]

_ROUNDS = 3  # the frame is turned to the end plates, then everything is measured again
_HALF_FRONT, _HALF_UP = 34.0, 34.0  # mm: half size of the section of a body
_LEFT_OUT = 0.08  # of a face's length at both of its ends, where corners are round
_MIDDLE = 0.08  # of a face's length on both sides of its middle: what the middle point is the mean of
_STEPS = 0.5  # pixels by which a straight face may look hollow, as it is made of steps
_OUTLIER = 3.0  # times the deviation of the rest
_SACRAL_WALL = (3.0, 13.0)  # mm below the sacrum's end plate: between these its front and back walls are looked for
_DEPTH, _BODY_HEIGHT, _DISC_HEIGHT = (12.0, 56.0), (3.0, 50.0), (0.5, 30.0)  # mm: what else has this size is an error
_TOPS = ("upper", "lower")
_CORNER_MOVES = 4.0  # mm by which the voxels' edges may move a corner of the section
_TOO_SMALL = "its section is too small"


@dataclass(frozen=True)
class Plate:
    """An end plate in the mid-sagittal section.

    Attributes:
        front, middle, back: world coordinates of its points, mm, shape (3,); the middle one lies on the surface
            halfway between the corners.
    """

    front: np.ndarray
    middle: np.ndarray
    back: np.ndarray

    @property
    def direction(self) -> np.ndarray:
        """Unit vector from the back corner to the front one."""
        return unit(self.front - self.back)

    @property
    def depth(self) -> float:
        """From corner to corner, mm."""
        return float(np.linalg.norm(self.front - self.back))


@dataclass(frozen=True)
class Outline:
    """A vertebral body or disc in the mid-sagittal section.

    Attributes:
        upper: the upper end plate.
        lower: the lower one.
        lateral: unit normal of the section, towards the patient's right.
    """

    upper: Plate
    lower: Plate
    lateral: np.ndarray

    @property
    def heights(self) -> tuple[float, float, float]:
        """Distance of the end plates' front, middle and back points, mm."""
        pairs = ((getattr(self.upper, name), getattr(self.lower, name)) for name in ("front", "middle", "back"))
        return tuple(float(np.linalg.norm(above - below)) for above, below in pairs)

    @property
    def depth(self) -> float:
        """Mean depth of the end plates, mm."""
        return (self.upper.depth + self.lower.depth) / 2


def find_outline(region: Region, frame: Frame, disc: bool = False) -> Outline:
    """Find the corners of a vertebral body or disc.

    The faces are first found in the section, as lines or, where they are visibly hollow, parabolas. Those of a body are
    then fitted to the edges between voxels (:func:`common.metrics.spine_measures.faces.fit_face`), if all four are
    straight. Round corners and outliers (Schmorl's nodes, osteophytes) are left out; a corner is where two faces meet.

    Args:
        region: the vertebra, with or without its arch, or the disc.
        frame: upwards along the spine, its origin at the region's centroid.
        disc: whether it is a disc, whose front and back are taken for straight.

    Returns:
        The outline.

    Raises:
        UnmeasurableError: see :func:`common.metrics.spine_measures.section.cut_section`; or its size is not that of
            a vertebral body or disc.
    """
    frame = body_frame(region, frame)
    bend = 0 if disc else 2
    for _ in range(_ROUNDS):
        section = cut_section(region, frame, _HALF_FRONT, _HALF_UP)
        measured = frame
        corners, middles, lines = _corners(section, region.grid.pixel, bend)
        _refuse_size(corners, _DISC_HEIGHT if disc else _BODY_HEIGHT)
        outline = _placed(frame, corners, middles)
        upper, lower = (corners[side, "front"] - corners[side, "back"] for side in ("upper", "lower"))
        lean = unit(unit(upper) + unit(lower))
        middle = np.mean(list(corners.values()), axis=0)
        frame = frame.turned(float(np.arctan2(lean[1], lean[0])), *middle)
    if disc:
        return outline
    # The section's last frame, which the corners are given in, not the one that was turned after it.
    return _placed(measured, *_refined(region, measured, corners, middles, lines))


def _refined(region: Region, frame: Frame, corners: dict, middles: dict, lines: dict[str, Line]) -> tuple[dict, dict]:
    """Return corners and middles by the voxels' own edges where all faces are straight, else those of the section."""
    edges, fitted = find_edges(region, frame), {}
    for name, line in lines.items():
        along = 0 if name in _TOPS else 1
        ends = [corners[key][along] for key in corners if name in key]
        fitted[name] = fit_face(edges, line, name, min(ends), max(ends))
    if None in fitted.values():
        return corners, middles
    corners = {key: _meet(fitted[key[0]], fitted[key[1]], corner, _around(corner)) for key, corner in corners.items()}
    middle = {side: (corners[side, "back"][0] + corners[side, "front"][0]) / 2 for side in middles}
    return corners, {side: np.array([at, float(fitted[side](at))]) for side, at in middle.items()}


def _around(corner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds, as :func:`_meet` takes them, that a corner keeps within."""
    return corner - _CORNER_MOVES, corner + _CORNER_MOVES


def find_upper_plate(region: Region, frame: Frame) -> tuple[Plate, np.ndarray]:
    """Find the end plate of the sacrum.

    The label may hold S1 alone, or the whole sacrum with the wall behind its canal. Only what lies within a few
    millimetres below the end plate is looked at.

    Args:
        region: the sacrum.
        frame: upwards about at right angles to the end plate, its origin anywhere in the upper sacrum.

    Returns:
        The end plate, and the unit normal of the section, towards the patient's right.

    Raises:
        UnmeasurableError: as in :func:`find_outline`.
    """
    for _ in range(_ROUNDS):
        section, highest = cut_top(region, frame)
        corners, middle = _top_corners(section, highest, region.grid.pixel)
        depth = corners["front"][0] - corners["back"][0]
        if not _DEPTH[0] <= depth <= _DEPTH[1]:
            raise UnmeasurableError(f"it would be {depth:.0f} mm deep")
        plate = Plate(*(frame.point(*point) for point in (corners["front"], middle, corners["back"])))
        lean = corners["front"] - corners["back"]
        frame = frame.turned(float(np.arctan2(lean[1], lean[0])), *middle)
    return plate, frame.lateral


def _corners(section: Section, pixel: float, bend: int) -> tuple[dict, dict]:
    """Return corners by (side, end), and middles by side, each as (front, up) in the section, mm."""
    inside = section.inside
    columns, rows = np.flatnonzero(inside.any(axis=0)), np.flatnonzero(inside.any(axis=1))
    tops = {
        "upper": (section.front[columns], _last(section.share, section.up)[columns]),
        "lower": (section.front[columns], -_last(section.share[::-1], -section.up[::-1])[columns]),
    }
    walls = _walls(section, rows)
    # A first guess of the corners, from the faces' medians; the second round knows where each face begins and ends.
    ends = {name: float(np.median(values)) for name, (_, values) in {**tops, **walls}.items()}
    corners = {(side, end): np.array([ends[end], ends[side]]) for side in tops for end in walls}
    # The front and back of a disc are short: where they are does not depend on where exactly they end.
    fixed = {end: _fit(*walls[end], ends["lower"], ends["upper"], pixel, 0) for end in walls} if bend == 0 else None
    for _ in range(3):
        faces = {
            side: _fit(*tops[side], corners[side, "back"][0], corners[side, "front"][0], pixel, 2) for side in tops
        }
        sides = fixed or {
            end: _fit(*walls[end], corners["lower", end][1], corners["upper", end][1], pixel, bend) for end in walls
        }
        corners = {
            (side, end): _meet(
                faces[side], sides[end], corners[side, end], _within(*tops[side], *walls[end], side, end)
            )
            for side, end in corners
        }
    middles = {side: _middle(*tops[side], corners[side, "back"][0], corners[side, "front"][0]) for side in tops}
    return corners, middles, {**faces, **sides}


def _top_corners(section: Section, highest: float, pixel: float) -> tuple[dict, np.ndarray]:
    """Return the corners of the sacrum's end plate by end, and its middle, each as (front, up) in the section, mm."""
    columns = np.flatnonzero(section.inside.any(axis=0))
    top = section.front[columns], _last(section.share, section.up)[columns]
    low, high = highest - _SACRAL_WALL[1], highest - _SACRAL_WALL[0]
    rows = np.flatnonzero(section.inside.any(axis=1) & (section.up >= low) & (section.up <= high))
    walls = _walls(section, rows)
    # A wall's ends are not left out: it goes on below, and the corner's round part is above.
    sides = {end: _fit(*walls[end], low, high, pixel, 1, margin=0) for end in walls}
    corners = {end: np.array([float(sides[end](high)), highest]) for end in walls}
    for _ in range(3):
        face = _fit(*top, corners["back"][0], corners["front"][0], pixel, 2)
        corners = {
            end: _meet(face, sides[end], corners[end], _within(*top, *walls[end], "upper", end)) for end in walls
        }
    return corners, _middle(*top, corners["back"][0], corners["front"][0])


def _walls(section: Section, rows: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return where the front and back walls are (front, mm) in some rows, with the rows' positions (up, mm)."""
    turned = section.share.T
    return {
        "front": (section.up[rows], _last(turned, section.front)[rows]),
        "back": (section.up[rows], -_last(turned[::-1], -section.front[::-1])[rows]),
    }


def _last(share: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return where each column's last sample inside gives way to the outside; NaN where it has none inside."""
    inside = share >= 0.5
    row = len(at) - 1 - np.argmax(inside[::-1], axis=0)
    column = np.arange(share.shape[1])
    within = share[row, column]
    beyond = share[np.minimum(row + 1, len(at) - 1), column]
    part = np.divide(within - 0.5, within - beyond, out=np.zeros_like(within), where=within > beyond)
    return np.where(inside.any(axis=0), at[row] + part * (at[1] - at[0]), np.nan)


def _fit(
    along: np.ndarray, values: np.ndarray, low: float, high: float, pixel: float, bend: int, margin: float = _LEFT_OUT
) -> Line:
    """Fit a face to its boundary between two corners.

    Args:
        along: positions along the face, mm.
        values: where the boundary is, mm.
        low: where the face begins.
        high: where it ends.
        pixel: mm.
        bend: 2 for a face that may be hollow, 1 for a straight one, 0 for one along the axis.
        margin: which part of it is left out at both ends, where the corners are round.
    """
    left_out = margin * (high - low)
    kept = (along >= low + left_out) & (along <= high - left_out)
    middle, half = (low + high) / 2, max((high - low) / 2, 1e-6)
    t = (along - middle) / half
    for _ in range(3):
        if np.count_nonzero(kept) < 4:
            raise UnmeasurableError(_TOO_SMALL)
        hollow = _hollow(t[kept], values[kept], pixel) if bend == 2 else 0.0
        rest = np.polynomial.Polynomial.fit(t[kept], values[kept] - hollow * t[kept] ** 2, min(bend, 1), domain=[-1, 1])
        fitted = rest + np.polynomial.Polynomial([0, 0, hollow])
        away = np.abs(values - fitted(t))
        usual = max(1.48 * float(np.median(away[kept])), 0.5 * pixel)
        kept = kept & (away <= _OUTLIER * usual)
    return lambda position: fitted((position - middle) / half)


def _hollow(t: np.ndarray, values: np.ndarray, pixel: float) -> float:
    """Return how hollow a face is: the coefficient of t squared, mm, drawn to 0 where pixels' steps may feign it."""
    found = np.polynomial.polynomial.polyfit(t, values, 2)[2]
    return float(found * max(0.0, 1 - (_STEPS * pixel / max(abs(found), 1e-9)) ** 2))


def _within(
    front: np.ndarray, tops: np.ndarray, up: np.ndarray, walls: np.ndarray, side: str, end: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return between which (front, up) a corner lies: no farther out than the section in that quarter of it."""
    ahead = front > np.mean(front) if end == "front" else front < np.mean(front)
    above = up > np.mean(up) if side == "upper" else up < np.mean(up)
    if not ahead.any() or not above.any():
        raise UnmeasurableError(_TOO_SMALL)
    low = np.array([front.min(), min(up.min(), tops.min())])
    high = np.array([front.max(), max(up.max(), tops.max())])
    bound, outermost = (high, np.max) if end == "front" else (low, np.min)
    bound[0] = outermost(walls[above])
    bound, outermost = (high, np.max) if side == "upper" else (low, np.min)
    bound[1] = outermost(tops[ahead])
    return low, high


def _meet(face: Line, wall: Line, start: np.ndarray, within: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return where an end plate and a wall meet within bounds, as (front, up)."""
    corner = start
    for _ in range(20):
        up = float(face(corner[0]))
        corner = np.clip([float(wall(np.clip(up, within[0][1], within[1][1]))), up], *within)
    return corner


def _middle(front: np.ndarray, up: np.ndarray, back: float, ahead: float) -> np.ndarray:
    middle, reach = (back + ahead) / 2, _MIDDLE * (ahead - back)
    near = np.abs(front - middle) <= reach
    if not near.any():
        raise UnmeasurableError(_TOO_SMALL)
    return np.array([middle, up[near].mean()])


def _refuse_size(corners: dict, heights: tuple[float, float]) -> None:
    for side in ("upper", "lower"):
        depth = corners[side, "front"][0] - corners[side, "back"][0]
        if not _DEPTH[0] <= depth <= _DEPTH[1]:
            raise UnmeasurableError(f"it would be {depth:.0f} mm deep")
    for end in ("front", "back"):
        height = corners["upper", end][1] - corners["lower", end][1]
        if not heights[0] <= height <= heights[1]:
            raise UnmeasurableError(f"it would be {height:.0f} mm high")


def _placed(frame: Frame, corners: dict, middles: dict) -> Outline:
    plates = (
        Plate(*(frame.point(*point) for point in (corners[side, "front"], middles[side], corners[side, "back"])))
        for side in ("upper", "lower")
    )
    return Outline(*plates, frame.lateral)

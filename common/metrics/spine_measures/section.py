"""The mid-sagittal section of a vertebral body or disc, without the arch behind it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from common.metrics.spine_measures.frames import Frame
from common.metrics.spine_measures.regions import Region

__all__ = ["Section", "UnmeasurableError", "body_frame", "cut_section", "cut_top"]

_HALF_BAND = 4.0  # mm: a section is the mean over so much on both sides
_SEARCH = 10.0  # mm on both sides of the centroid in which the canal is looked for
_BEHIND = 6.0  # mm by which bodies differ in depth from slice to slice; with a pedicle they are far deeper
_NARROWEST = 3.0  # mm of the canal that have to be seen
_SMALL_PIECE = 0.3  # of the largest piece of a section: what is smaller is no vertebral body
_REACH_FRONT, _REACH_UP = 75.0, 45.0  # mm: half size of the first section, which may hold the arch too
_STEP_ACROSS = 1.0  # mm
_TOP_WINDOW = (40.0, -30.0, 16.0)  # mm: half width, lower and upper end of the section of the sacrum's top
_TOP_MIDDLE, _TOP_HEIGHT = 8.0, 16.0  # mm: where the top is looked for around the middle; how much of it is kept
_STEEPEST = 40  # degrees by which the first guess of what is upwards may be wrong


class UnmeasurableError(ValueError):
    """A structure cannot be measured; the message says why, in the words of the table."""


@dataclass(frozen=True)
class Section:
    """A mid-sagittal section, sampled finely.

    Attributes:
        share: how much of each sample belongs to the structure, 0..1, shape (up, front); 0 outside of the body.
        front: positions towards the front, mm.
        up: positions upwards, mm.
    """

    share: np.ndarray
    front: np.ndarray
    up: np.ndarray

    @property
    def inside(self) -> np.ndarray:
        """Which samples belong to the body."""
        return self.share >= 0.5


def body_frame(region: Region, frame: Frame) -> Frame:
    """Move a frame to the middle of the vertebral body.

    Where the label holds the arch too, body and arch are one piece through the pedicles, but apart where a sagittal
    section runs through the canal. So the sections beside the centroid's are looked at, and those are taken in which
    the foremost piece is about as short, from front to back, as in any: they show the body alone. The frame is moved to
    the middle of these sections. Where the label holds the body alone, they are all of that kind.

    Args:
        region: a vertebra or disc.
        frame: its origin lies at the centroid, about; it is turned as the spine is.

    Returns:
        The frame with its origin in the middle of the body's section, turned as the body is, about.

    Raises:
        UnmeasurableError: no section shows the body apart from the arch.
    """
    step = _fineness(region) * 2
    across = np.arange(-_SEARCH, _SEARCH + _STEP_ACROSS / 2, _STEP_ACROSS)
    front, up = np.arange(-_REACH_FRONT, _REACH_FRONT, step), np.arange(-_REACH_UP, _REACH_UP, step)
    sections = region.sample(frame, across, front, up) >= 0.5
    bodies = [_foremost(section) for section in sections]
    areas = np.array([np.count_nonzero(body) for body in bodies], dtype=float)
    shown = areas >= 0.5 * np.median(areas[areas > 0]) if areas.any() else areas > 0
    if not shown.any():
        raise UnmeasurableError("its middle is not labelled")
    depths = np.array([np.ptp(np.flatnonzero(body.any(axis=0))) * step if body.any() else np.inf for body in bodies])
    alone = shown & (depths <= depths[shown].min() + _BEHIND)
    runs, count = ndimage.label(alone)
    middle = min(range(1, count + 1), key=lambda run: np.abs(across[runs == run]).min())
    chosen = np.flatnonzero(runs == middle)
    if len(chosen) * _STEP_ACROSS < _NARROWEST:
        raise UnmeasurableError("the body cannot be told from the arch")
    body = bodies[chosen[len(chosen) // 2]]
    rows, columns = np.nonzero(body)
    places = np.column_stack([front[columns], up[rows]])
    return frame.turned(_upright(places), *places.mean(axis=0), float(across[chosen].mean()))


def cut_section(region: Region, frame: Frame, half_front: float, half_up: float) -> Section:
    """Take the mean of the sections near a frame's own, and keep the body.

    Args:
        region: a vertebra or disc.
        frame: its origin lies in the middle of the body, as :func:`body_frame` makes it.
        half_front: how far the section reaches to the front and back, mm.
        half_up: how far up and down.

    Returns:
        The section.

    Raises:
        UnmeasurableError: the section is empty, or the edge of the scan cuts it.
    """
    step = _fineness(region)
    across = np.arange(-_HALF_BAND, _HALF_BAND + _STEP_ACROSS / 2, _STEP_ACROSS)
    front, up = np.arange(-half_front, half_front, step), np.arange(-half_up, half_up, step)
    share = region.sample(frame, across, front, up).mean(axis=0)
    body = _foremost(share >= 0.5)
    if not body.any():
        raise UnmeasurableError("its middle is not labelled")
    _refuse_cut(region, frame, body, front, up)
    return _surrounded(share, body, front, up)


def cut_top(region: Region, frame: Frame) -> tuple[Section, float]:
    """Take the mid-sagittal section of the sacrum's top.

    Args:
        region: the sacrum, S1 alone or all of it.
        frame: its origin lies near the middle of the end plate, above or below; its upward axis is about normal to it.

    Returns:
        The section with the upper 16 mm, and how high the end plate's highest point is near the middle, mm.

    Raises:
        UnmeasurableError: the section is empty, or the edge of the scan cuts it.
    """
    step = _fineness(region)
    half, bottom, top = _TOP_WINDOW
    across = np.arange(-_HALF_BAND, _HALF_BAND + _STEP_ACROSS / 2, _STEP_ACROSS)
    front, up = np.arange(-half, half, step), np.arange(bottom, top, step)
    share = region.sample(frame, across, front, up).mean(axis=0)
    near = (share >= 0.5) & (np.abs(front) <= _TOP_MIDDLE)
    if not near.any():
        raise UnmeasurableError("its middle is not labelled")
    highest = float(up[np.flatnonzero(near.any(axis=1))[-1]])
    pieces, _ = ndimage.label((share >= 0.5) & (up[:, None] >= highest - _TOP_HEIGHT))
    body = pieces == np.bincount(pieces[near & (pieces > 0)]).argmax()
    _refuse_cut(region, frame, body, front, up)
    return _surrounded(share, body, front, up), highest


def _surrounded(share: np.ndarray, body: np.ndarray, front: np.ndarray, up: np.ndarray) -> Section:
    """Keep the body, and the samples right outside of it: its surface lies between those and the ones inside."""
    around = ndimage.binary_dilation(body, iterations=2) & (share < 0.5)
    return Section(np.where(body | around, share, 0), front, up)


def _upright(places: np.ndarray) -> float:
    """Return by which angle (radians) the smallest rectangle around a body is turned, of those that stand upright."""
    angles = np.deg2rad(np.arange(-_STEEPEST, _STEEPEST + 1, 4))
    sides = np.stack([np.cos(angles), np.sin(angles)]), np.stack([-np.sin(angles), np.cos(angles)])
    # The outermost samples do not count: a corner that sticks out would turn the rectangle.
    lengths = [np.ptp(np.percentile(places @ side, (1, 99), axis=0), axis=0) for side in sides]
    return float(angles[np.argmin(lengths[0] * lengths[1])])


def _fineness(region: Region) -> float:
    return float(np.clip(region.grid.pixel / 2, 0.25, 0.5))


def _foremost(section: np.ndarray) -> np.ndarray:
    """Return the piece of a section that lies farthest to the front, small ones left out."""
    pieces, count = ndimage.label(section)
    if count < 2:
        return section
    sizes = np.bincount(pieces.ravel())[1:]
    large = [piece for piece in range(1, count + 1) if sizes[piece - 1] >= _SMALL_PIECE * sizes.max()]
    front = ndimage.mean(np.broadcast_to(np.arange(section.shape[1]), section.shape), pieces, large)
    return pieces == large[int(np.argmax(front))]


def _refuse_cut(region: Region, frame: Frame, body: np.ndarray, front: np.ndarray, up: np.ndarray) -> None:
    grid = region.grid
    points = frame.grid_points(np.zeros(1), front, up)[0][body]
    voxels = np.rint(grid.to_voxels(points))
    edges = [name for axis, name in grid.edges_of(voxels.min(axis=0), voxels.max(axis=0)) if axis != grid.lateral_axis]
    if edges:
        raise UnmeasurableError(f"cut by the {edges[0]} edge of the scan")

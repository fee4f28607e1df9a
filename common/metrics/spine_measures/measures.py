"""What clinicians measure in the spine, from a label map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.data.label_scheme import LabelScheme
from common.metrics.spine_measures.frames import Frame, unit
from common.metrics.spine_measures.outline import Outline, Plate, find_outline, find_upper_plate
from common.metrics.spine_measures.regions import Grid, Region, find_regions
from common.metrics.spine_measures.section import UnmeasurableError
from common.metrics.volumes import voxel_counts, voxel_volume

__all__ = ["LORDOSIS", "MEASURES", "SpineMeasures", "measure_spine", "meyerding_grade"]

# The measures of a row, in the table's order.
MEASURES = (
    "volume_ml", "height_anterior_mm", "height_middle_mm", "height_posterior_mm", "depth_mm", "disc_height_index",
    "slip_mm", "slip_percent", "slip_grade", "lordosis_deg",
)  # fmt: skip
_HEIGHTS = MEASURES[1:4]
LORDOSIS = "L1-S1"
_SACRUM, _TOP_OF_LORDOSIS = "S", "L1"
_ABSENT = "not in the label map"
_NARROWEST, _NARROWEST_CUT = 12.0, 25.0  # mm from side to side, of a label; of one that the edge of the scan cuts
_NEIGHBOURS = (-4.0, 28.0)  # mm between end plates: what is farther apart, or overlaps more, does not adjoin
_NO_SLIP = 3.0  # mm: less is neither told from chance nor called a slip
_GRADES = ("0", "I", "II", "III", "IV", "V")


@dataclass(frozen=True)
class SpineMeasures:
    """The measures of one label map, and the points that they were taken from.

    Attributes:
        rows: one mapping for each level, in the order of the table: see :func:`measure_spine`.
        outlines: corners and end plates of vertebral bodies, and of discs where they were measured themselves, by name.
        sacral_plate: the upper end plate of S1; None where it was not measured.
    """

    rows: list[dict[str, Any]]
    outlines: Mapping[str, Outline]
    sacral_plate: Plate | None

    def row(self, level: str) -> dict[str, Any]:
        """Return the row of a level."""
        return next(row for row in self.rows if row["level"] == level)


def measure_spine(labels: np.ndarray, affine: np.ndarray, scheme: LabelScheme) -> SpineMeasures:
    """Measure the spine in a label map.

    All measures but the volume are taken in the mid-sagittal section of each vertebra and disc: the mean of 8 mm on the
    sagittal plane through its own middle, at right angles to the spine's course from side to side. Sagittal is what the
    scan's own sagittal slices are. Where a label holds the arch too, the body is what lies in front of the canal. Each
    body has six points (Genant et al., J Bone Miner Res 8 (1993) 1137): the front, middle and back of its upper and
    lower end plate. The faces are fitted to the boundary and the corners are where they meet, so that rounded corners
    do not count; of the sacrum there is the upper end plate only.

    Each row has ``level``, the keys of ``MEASURES`` (None where it does not apply or cannot be measured), and
    ``missing``: for what applies and cannot be measured, why. Rows and measures:

    - Vertebrae (``S``, ``L5`` ...). ``height_anterior_mm``, ``height_middle_mm``, ``height_posterior_mm``: distance of
      the two front, middle and back points, as in Genant et al. ``depth_mm``: mean distance from the front to the back
      corner of both end plates; of S1's upper one for the sacrum. ``slip_mm``: how far the lower back corner lies in
      front of the upper back corner of the vertebra below (negative: behind, retrolisthesis), along that vertebra's
      upper end plate. ``slip_percent``: as a part of that end plate's depth. Where the disc is a wedge that is open
      to the front, a corner right above the other one along the disc lies a little behind it by this measure.
      ``slip_grade``: of a slip to the front, in quarters of the depth (Meyerding, Surg Gynecol Obstet 54 (1932) 371):
      I to IV, V beyond the whole depth; 0 below 3 mm (this limit is ours) and to the back.
    - Discs (``L5/S`` ...). Heights: of the space between the end plates, as on radiographs: the distance of the
      neighbouring bodies' front, middle and back points along the normal of the end plates' bisector. Where a
      neighbour is not in the label map, the disc's own label is measured. ``depth_mm``: mean of both end plates'.
      ``disc_height_index``: the mean of the three heights, divided by the mean of the six heights of both neighbouring
      bodies (Masuda et al., Spine 30 (2005) 5); for L5/S by those of L5 alone, as S1 has no lower end plate (ours).
    - ``L1-S1``. ``lordosis_deg``: the angle between the upper end plates of L1 and S1 in the sagittal plane (Cobb's
      method; Vrtovec et al., Eur Spine J 18 (2009) 593), positive for lordosis.
    - ``volume_ml`` of vertebrae and discs: of all voxels with the label; None where the edge of the scan cuts it.

    How exact: tests/common/metrics/spine_measures/test_bodies.py asks for heights and depths of bodies with flat end
    plates to half a voxel where both end plates are more than 2 degrees from the rows of voxels. Nearer to them all
    places of a face within a voxel may give the same label map, so that a height may be up to a voxel off. Where end
    plates are hollow, front and back heights may be off by several voxels.
    Sections are sagittal in the scan, not in each vertebra: with axial rotation a slip holds some of the lateral shift.

    Args:
        labels: integer array of written values 0..19, shape (X, Y, Z), axes in any orientation.
        affine: from voxels to millimetres in RAS world space, shape (4, 4).
        scheme: gives the structures; there is a row for each, whether the label map holds it or not.

    Returns:
        The measures.

    Raises:
        ValueError: the labels are not integers from 0 to 19 in three dimensions, or the affine cannot be inverted.
    """
    labels = np.asarray(labels)
    if labels.ndim != 3:
        raise ValueError(f"the labels have the shape {labels.shape}; it must be (X, Y, Z)")
    counts, volume = voxel_counts(labels, scheme), voxel_volume(affine) / 1000
    return _Spine(labels, np.asarray(affine), scheme).measures(counts * volume)


def meyerding_grade(slip_mm: float, depth_mm: float) -> str:
    """Return the grade of a slip after Meyerding.

    Args:
        slip_mm: the slip, mm, positive to the front.
        depth_mm: of the end plate below, mm.

    Returns:
        ``I`` to ``IV``: up to one, two, three and four quarters of the depth; ``V``: more; ``0``: less than 3 mm, or
        to the back.
    """
    if slip_mm < _NO_SLIP:
        return _GRADES[0]
    return _GRADES[min(int(np.ceil(slip_mm / depth_mm * 4)), len(_GRADES) - 1)]


def _cut(edges: Sequence[str]) -> str:
    return f"cut by the {' and '.join(edges)} edge{'s' if len(edges) > 1 else ''} of the scan"


class _Row:
    """A row on its way: its values, and the reason for each that is missing."""

    def __init__(self, level: str) -> None:
        self.level, self.values, self._missing = level, {}, {}

    def miss(self, what: str, why: str) -> None:
        self._missing.setdefault(why, []).append(what)

    def plain(self) -> dict[str, Any]:
        missing = "; ".join(f"{', '.join(whats)}: {why}" for why, whats in self._missing.items())
        return {"level": self.level, **{name: self.values.get(name) for name in MEASURES}, "missing": missing}


class _Spine:
    """The structures of one label map, by name, and what was found of each."""

    def __init__(self, labels: np.ndarray, affine: np.ndarray, scheme: LabelScheme) -> None:
        self.grid = Grid(labels.shape, affine)
        found = find_regions(labels, self.grid)
        structures = sorted(scheme.structures, key=lambda structure: structure.value)
        self.values = {structure.name: structure.value for structure in structures}
        self.regions = {name: found[value] for name, value in self.values.items() if value in found}
        self.bones = [structure.name for structure in structures if not structure.is_disc]  # from the sacrum up
        self.discs = [structure.name for structure in structures if structure.is_disc]
        self.outlines: dict[str, Outline] = {}
        self.plate: Plate | None = None
        self.failures: dict[str, str] = {}
        for name in self.bones[1:]:
            self._outline(name, self.bones)
        self._find_sacral_plate()
        for name in self.discs:
            upper, lower = name.split("/")
            if upper not in self.regions or lower not in self.regions:
                self._outline(name, self.discs)

    def _outline(self, name: str, column: list[str]) -> None:
        try:
            region = self._region(name)
            frame = Frame.along(region.centroid, self._course(name, column), self.grid.lateral)
            self.outlines[name] = find_outline(region, frame, disc=name in self.discs)
        except UnmeasurableError as error:
            # Of a sliver at the edge of the scan, the edge is the reason.
            edges = (
                [edge for edge in self.regions[name].edges if edge not in ("left", "right")]
                if name in self.regions
                else []
            )
            self.failures[name] = _cut(edges) if edges else str(error)

    def _region(self, name: str) -> Region:
        """Return a structure that is shown widely enough from side to side."""
        if name not in self.regions:
            raise UnmeasurableError(_ABSENT)
        region = self.regions[name]
        if region.width < _NARROWEST:
            raise UnmeasurableError(f"its label is only {region.width:.0f} mm wide")
        if region.cut_aside and region.width < _NARROWEST_CUT:
            raise UnmeasurableError(_cut(region.edges))
        return region

    def _course(self, name: str, column: list[str]) -> np.ndarray:
        """Return the direction of the spine at a vertebra or disc: from the neighbour of its kind below to that above.

        Where there are no neighbours, it is the direction of the scan's own axis from foot to head.
        """
        place = column.index(name)
        near = [other for other in column[max(place - 1, 0) : place + 2] if other in self.regions and other != "S"]
        course = self.regions[near[-1]].centroid - self.regions[near[0]].centroid
        return unit(course) if len(near) > 1 else self.grid.cranial

    def _find_sacral_plate(self) -> None:
        """Look for S1's end plate where L5's lower one, or the disc, says that it is."""
        try:
            region = self._region(_SACRUM)
            if (above := self.outlines.get(self.bones[1])) is not None:
                start, normal = above.lower.middle, np.cross(above.lateral, above.lower.direction)
            elif (disc := self.discs[0]) in self.regions:
                outline = find_outline(
                    self._region(disc),
                    Frame.along(self.regions[disc].centroid, self.grid.cranial, self.grid.lateral),
                    disc=True,
                )
                start, normal = outline.lower.middle, np.cross(outline.lateral, outline.lower.direction)
            else:
                raise UnmeasurableError("there is neither L5 nor the disc above to find its end plate by")
            self.plate, _ = find_upper_plate(region, Frame.along(start, normal, self.grid.lateral))
        except UnmeasurableError as error:
            self.failures[_SACRUM] = str(error)

    def measures(self, volumes_ml: np.ndarray) -> SpineMeasures:
        """Return all rows.

        Args:
            volumes_ml: volume of each value, mL, shape (20,).
        """
        rows = []
        for name, value in self.values.items():
            row = _Row(name)
            if name not in self.regions:
                row.miss("volume", _ABSENT)
            elif edges := self.regions[name].edges:
                row.miss("volume", _cut(edges))
            else:
                row.values["volume_ml"] = float(volumes_ml[value])
            (self._measure_disc if name in self.discs else self._measure_bone)(row)
            rows.append(row)
        rows.append(self._lordosis())
        return SpineMeasures([row.plain() for row in rows], self.outlines, self.plate)

    def _measure_bone(self, row: _Row) -> None:
        name = row.level
        if name == _SACRUM:
            if self.plate is None:
                row.miss("depth", self.failures[name])
            else:
                row.values["depth_mm"] = self.plate.depth
            return
        if name not in self.outlines:
            row.miss("heights and depth", self.failures[name])
            row.miss("slip", self.failures[name])
            return
        outline = self.outlines[name]
        row.values |= dict(zip(_HEIGHTS, outline.heights, strict=True)) | {"depth_mm": outline.depth}
        below = self.bones[self.bones.index(name) - 1]
        try:
            plate = self._plate_below(name, below)
        except UnmeasurableError as error:
            row.miss("slip", str(error))
            return
        slip = float((outline.lower.back - plate.back) @ plate.direction)
        grade = meyerding_grade(slip, plate.depth)
        row.values |= {"slip_mm": slip, "slip_percent": 100 * slip / plate.depth, "slip_grade": grade}

    def _plate_below(self, name: str, below: str) -> Plate:
        """Return the upper end plate of the vertebra below a measured one, if the two adjoin."""
        plate = self.plate if below == _SACRUM else None
        if below in self.outlines:
            plate = self.outlines[below].upper
        if plate is None:
            raise UnmeasurableError(f"{below} is not measured ({self.failures[below]})")
        gap = float(np.mean(self._gaps(self.outlines[name], plate)))
        if not _NEIGHBOURS[0] <= gap <= _NEIGHBOURS[1]:
            raise UnmeasurableError(f"{name} and {below} are {gap:.0f} mm apart")
        return plate

    @staticmethod
    def _gaps(above: Outline, plate: Plate) -> tuple[float, float, float]:
        """Return the distances of front, middle and back points along the normal of two end plates' bisector."""
        normal = unit(np.cross(above.lateral, unit(above.lower.direction + plate.direction)))
        pairs = ((getattr(above.lower, end), getattr(plate, end)) for end in ("front", "middle", "back"))
        return tuple(float((upper - lower) @ normal) for upper, lower in pairs)

    def _measure_disc(self, row: _Row) -> None:
        upper, lower = row.level.split("/")
        own = self.outlines.get(row.level)
        try:
            if own is not None:
                heights, depth = own.heights, own.depth
            elif row.level in self.failures:
                raise UnmeasurableError(self.failures[row.level])
            elif (above := self.outlines.get(upper)) is None:
                raise UnmeasurableError(f"{upper} is not measured ({self.failures[upper]})")
            else:
                plate = self._plate_below(upper, lower)
                heights, depth = self._gaps(above, plate), (above.lower.depth + plate.depth) / 2
        except UnmeasurableError as error:
            row.miss("heights and depth", str(error))
            row.miss("index", str(error))
            return
        row.values |= dict(zip(_HEIGHTS, heights, strict=True)) | {"depth_mm": depth}
        bodies = [name for name in (upper, lower) if name != _SACRUM]
        if missing := [name for name in bodies if name not in self.outlines]:
            row.miss("index", f"{missing[0]} is not measured ({self.failures[missing[0]]})")
            return
        body_heights = [height for name in bodies for height in self.outlines[name].heights]
        row.values["disc_height_index"] = float(np.mean(heights) / np.mean(body_heights))

    def _lordosis(self) -> _Row:
        row = _Row(LORDOSIS)
        first = self.outlines.get(_TOP_OF_LORDOSIS)
        if missing := [name for name, found in ((_TOP_OF_LORDOSIS, first), (_SACRUM, self.plate)) if found is None]:
            row.miss("lordosis", f"{missing[0]} is not measured ({self.failures[missing[0]]})")
            return row
        axes = Frame.along(np.zeros(3), self.grid.cranial, self.grid.lateral)
        angles = [
            np.arctan2(plate.direction @ axes.up, plate.direction @ axes.front) for plate in (first.upper, self.plate)
        ]
        row.values["lordosis_deg"] = float(np.degrees(angles[0] - angles[1]))
        return row

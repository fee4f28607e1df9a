"""Corners, end plates and numbers of spine measures on a sagittal picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from common.metrics.spine_measures import LORDOSIS, Plate, SpineMeasures

__all__ = ["MEASURE_COLORS", "draw_measures", "measure_lines"]

_BONE, _DISC, _SLIP, _ANGLE = (120, 220, 255), (255, 214, 120), (255, 110, 96), (190, 255, 150)
MEASURE_COLORS = {"bone": _BONE, "disc": _DISC, "slip": _SLIP, "lordosis": _ANGLE}
_BEYOND = 14.0  # mm by which the end plates that the lordosis is taken from are drawn longer

Place = Callable[[np.ndarray], tuple[float, float]]


def draw_measures(picture: Image.Image, measures: SpineMeasures, place: Place, pixel: float) -> None:
    """Draw end plates, their points, and slips onto a sagittal picture.

    End plates are lines from corner to corner, a body's six points dots; slips to the front of 3 mm and more are red
    lines between the two corners; the end plates of the lordosis go on in green.

    Args:
        picture: mode RGB; it is changed.
        measures: what is drawn.
        place: gives the position in the picture, pixels, of world coordinates (mm, RAS).
        pixel: width of a thin line, pixels.
    """
    draw = ImageDraw.Draw(picture)

    def line(points: Sequence[np.ndarray], color: tuple[int, int, int], width: float = 1.0) -> None:
        draw.line([place(point) for point in points], fill=color, width=max(1, round(width * pixel)))

    plates = {name: (outline.upper, outline.lower) for name, outline in measures.outlines.items()}
    if measures.sacral_plate is not None:
        plates["S"] = (measures.sacral_plate,)
    if measures.row(LORDOSIS)["lordosis_deg"] is not None:
        for plate in (measures.outlines["L1"].upper, measures.sacral_plate):
            reach = _BEYOND * plate.direction
            line((plate.back - reach, plate.front + reach), _ANGLE, 1.5)
    for name, faces in plates.items():
        for plate in faces:
            _draw_plate(draw, plate, place, pixel, _DISC if "/" in name else _BONE)
    levels = [row["level"] for row in measures.rows]
    for place_below, row in enumerate(measures.rows, start=-1):  # rows of vertebrae start at the sacrum
        if row["slip_grade"] not in (None, "0"):
            line((plates[row["level"]][1].back, plates[levels[place_below]][0].back), _SLIP, 2.0)


def _draw_plate(
    draw: ImageDraw.ImageDraw, plate: Plate, place: Place, pixel: float, color: tuple[int, int, int]
) -> None:
    points = [place(point) for point in (plate.front, plate.middle, plate.back)]
    draw.line((points[0], points[2]), fill=color, width=max(1, round(pixel)))
    radius = 1.6 * pixel
    for x, y in points:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)


def measure_lines(measures: SpineMeasures) -> list[tuple[str, str, np.ndarray]]:
    """Return the lines of text that stand beside a picture of measures.

    Returns:
        For each level that has any number: its kind (a key of ``MEASURE_COLORS``), the text, and the world coordinates
        of what it is about (mm).
    """
    found = []
    for row in measures.rows:
        level = row["level"]
        heights = [row[f"height_{part}_mm"] for part in ("anterior", "middle", "posterior")]
        text = "  ".join(f"{height:.1f}" for height in heights if height is not None)
        if level == LORDOSIS:
            if row["lordosis_deg"] is not None:
                plate = measures.sacral_plate
                found.append(("lordosis", f"{level} lordosis {row['lordosis_deg']:.0f}\N{DEGREE SIGN}", plate.front))
        elif "/" in level and text:
            index = "" if row["disc_height_index"] is None else f"   DHI {row['disc_height_index']:.2f}"
            found.append(("disc", f"{level}   {text}{index}", _disc_middle(level, measures)))
        elif text:
            outline = measures.outlines[level]
            found.append(("bone", f"{level}   {text}", (outline.upper.middle + outline.lower.middle) / 2))
            if row["slip_grade"] not in (None, "0"):
                slip = f"{level} slip {row['slip_mm']:+.1f} mm, grade {row['slip_grade']}"
                found.append(("slip", slip, outline.lower.back))
    return found


def _disc_middle(level: str, measures: SpineMeasures) -> np.ndarray:
    if (own := measures.outlines.get(level)) is not None:
        return (own.upper.middle + own.lower.middle) / 2
    upper, lower = level.split("/")
    plate = measures.sacral_plate if lower == "S" else measures.outlines[lower].upper
    return (measures.outlines[upper].lower.middle + plate.middle) / 2

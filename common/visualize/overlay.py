"""One picture of a segmented spine: three planes, names, volumes, and Dice and measures where they are known."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from common.data.atomic import atomic_path
from common.data.label_scheme import LabelScheme
from common.metrics.spine_measures import SpineMeasures
from common.metrics.volumes import voxel_counts, voxel_volume
from common.visualize.measures import MEASURE_COLORS, draw_measures, measure_lines

__all__ = ["render_overlay", "save_overlay"]

# Colours of the page, red, green, blue.
_PAGE, _TEXT, _FAINT, _NOTE, _CONTOUR = (17, 19, 23), (232, 234, 237), (140, 147, 158), (255, 196, 84), (255, 255, 255)
_FILL = 0.36  # opacity of a structure's colour

# Lengths on the page, in pixels.
_GAP, _ROW, _NAME_ROW, _MIN_SIDE = 18, 21, 18, 72
_SAGITTAL_BOX, _CORONAL_BOX, _AXIAL_BOX = (520, 800), (340, 800), (340, 800)  # (width, height) at most
_NAMES_WIDTH = 84
_NUMBERS_WIDTH = 250
_VOXEL_LIMIT = 12  # the finest voxel is drawn at most this large: a tiny volume stays a small panel

# What is shown around the structures, in millimetres: left and right, front and back, above and below.
_MARGINS = (40.0, 55.0, 100.0)
# How far from the centroid the sagittal, coronal and axial slice may lie to show more, in millimetres: a slice at the
# centroid itself may well run between two structures.
_REACH = (math.inf, 15.0, 15.0)
_SUPERSAMPLING = 2  # panels are drawn this many times larger, then reduced, which smooths contours and lines
_SAMPLES = 1 << 20  # voxels that the grey window is taken from, about


def render_overlay(
    image: np.ndarray,
    labels: np.ndarray,
    affine: np.ndarray,
    scheme: LabelScheme,
    path: str | os.PathLike | None = None,
    title: str = "",
    reference: np.ndarray | None = None,
    measures: SpineMeasures | None = None,
) -> Image.Image:
    """Draw a segmentation over its scan in sagittal, coronal and axial planes.

    The planes follow the volume's axes that are closest to the patient's, in radiological convention (sagittal:
    anterior at the left; coronal and axial: the patient's right at the left), with square pixels in millimetres, cut
    to the surroundings of what is labelled. The sagittal slice is the one with the most labelled voxels; the coronal
    and axial slices are those with the most labelled voxels within 15 mm of the centroid. Where nothing is labelled,
    all three lie in the middle and a note says so. The same content gives the same picture however its axes are stored.

    Args:
        image: the scan, shape (X, Y, Z), axes in any orientation. Values that are not finite are drawn black.
        labels: integer array of written values 0..19, of the same shape.
        affine: from voxels to millimetres in RAS world space, as nibabel gives it, shape (4, 4).
        scheme: gives names and colours (of all its table's structures, so that none goes unseen).
        path: where to write the picture as PNG, atomically; None does not write it.
        title: what stands above the picture, such as the case's name.
        reference: integer array like ``labels``; its contours are drawn in white, and the legend gets a Dice column
            for the structures that it holds.
        measures: of these labels; a further sagittal panel shows the points that they were taken from, moved into its
            plane from left or right, and the numbers.

    Returns:
        The picture, mode RGB.

    Raises:
        InputError: the picture cannot be written.
        ValueError: the shapes differ or are not 3D, labels are not integers from 0 to 19, or the affine is not an
            invertible one of shape (4, 4).
    """
    view = _View(image, labels, affine, scheme, reference)
    picture = _compose(view, scheme, title, measures)
    if path is not None:
        with atomic_path(path) as temporary:
            # the lowest level: a fifth larger than the usual one, in a third of the time
            picture.save(temporary, format="PNG", compress_level=1)
    return picture


def save_overlay(
    path: str | os.PathLike,
    image: np.ndarray,
    labels: np.ndarray,
    affine: np.ndarray,
    scheme: LabelScheme,
    title: str = "",
    reference: np.ndarray | None = None,
    measures: SpineMeasures | None = None,
) -> Path:
    """Write the picture of :func:`render_overlay` as PNG, whole or not at all.

    Args:
        path: where the picture shall be; missing parent folders are created.
        image: as in :func:`render_overlay`, and so are the further arguments.
        labels: shape (X, Y, Z), written values.
        affine: shape (4, 4).
        scheme: names and colours.
        title: stands above the picture.
        reference: None, or an array like ``labels``.
        measures: None, or the measures of these labels.

    Returns:
        The path.

    Raises:
        InputError: the picture cannot be written.
        ValueError: as in :func:`render_overlay`.
    """
    render_overlay(image, labels, affine, scheme, path=path, title=title, reference=reference, measures=measures)
    return Path(path)


class _View:
    """The volume with its axes turned to left, posterior, inferior, and what of it is shown.

    With axes in this order and direction, every plane is a plain slice whose rows run down and columns to the right
    on the page, in radiological convention.

    Attributes:
        image, labels, reference: the turned arrays.
        spacing: size of a voxel along the turned axes, millimetres.
        center: the indices of the sagittal, coronal and axial slice.
        box: what is shown, a slice along each axis.
        window: the grey values drawn black and white.
        counts: voxels of each value in labels, reference and both; shape (3, 20).
        volume_ml: a voxel's volume.
        tilt: largest angle between an axis of the volume and the patient's, degrees.
    """

    def __init__(
        self,
        image: np.ndarray,
        labels: np.ndarray,
        affine: np.ndarray,
        scheme: LabelScheme,
        reference: np.ndarray | None,
    ) -> None:
        image, labels, affine = np.asarray(image), np.asarray(labels), np.asarray(affine, dtype=np.float64)
        reference = None if reference is None else np.asarray(reference)
        if image.ndim != 3 or 0 in image.shape:
            raise ValueError(f"the image has the shape {image.shape}; it must be (X, Y, Z)")
        for name, array in (("labels", labels), ("reference", reference)):
            if array is not None and array.shape != image.shape:
                raise ValueError(f"{name} have the shape {array.shape}, the image {image.shape}; they must be the same")
        if affine.shape != (4, 4):
            raise ValueError(f"the affine has the shape {affine.shape}; it must be (4, 4)")
        self.volume_ml = voxel_volume(affine) / 1000
        self.counts = np.zeros((3, max(scheme.values) + 1), dtype=np.int64)
        self.counts[0] = voxel_counts(labels, scheme)
        if reference is not None:
            self.counts[1] = voxel_counts(reference, scheme)
            self.counts[2] = voxel_counts(labels[labels == reference], scheme)

        turn = ornt_transform(io_orientation(affine), axcodes2ornt("LPI"))
        self.image, self.labels = apply_orientation(image, turn), apply_orientation(labels, turn)
        self.reference = None if reference is None else apply_orientation(reference, turn)
        turned = affine @ inv_ornt_aff(turn, image.shape)
        self._to_voxel = np.linalg.inv(turned)
        self.spacing = nib.affines.voxel_sizes(turned)
        cosines = np.abs(np.diag(turned[:3, :3])) / self.spacing
        self.tilt = float(np.degrees(np.arccos(np.clip(cosines.min(), 0, 1))))

        drawn = _profiles(self.labels)
        # What only the reference has must be in sight too, but the segmentation chooses the slices where it can.
        both = (
            drawn if self.reference is None else [a + b for a, b in zip(drawn, _profiles(self.reference), strict=True)]
        )
        chosen = drawn if drawn[0].any() else both
        self.center = tuple(map(_best_slice, chosen, self.spacing, _REACH))
        self.box = tuple(
            _extent(profile, spacing, margin)
            for profile, spacing, margin in zip(both, self.spacing, _MARGINS, strict=True)
        )
        self.window = _grey_window(self.image)

    def plane(self, axis: int) -> tuple[tuple[int, int], tuple[slice | int, ...]]:
        """Return the axes that run down and right in the plane across an axis, and its index into the volume."""
        across = [slice(part.start, part.stop) for part in self.box]
        across[axis] = self.center[axis]
        columns, rows = (other for other in range(3) if other != axis)
        return (rows, columns), tuple(across)

    def cut(self, array: np.ndarray, axis: int) -> np.ndarray:
        """Return the slice across an axis, rows down and columns to the right on the page."""
        return np.asarray(array[self.plane(axis)[1]]).T

    def size_mm(self, axis: int) -> tuple[float, float]:
        """Return width and height of the slice across an axis."""
        (rows, columns), _ = self.plane(axis)
        width, height = ((self.box[a].stop - self.box[a].start) * self.spacing[a] for a in (columns, rows))
        return float(width), float(height)

    def sagittal_place(self, point: np.ndarray) -> tuple[float, float]:
        """Return where world coordinates lie on the sagittal slice, as parts of its width and height."""
        voxel = self._to_voxel[:3, :3] @ point + self._to_voxel[:3, 3]
        places = [
            (voxel[axis] + 0.5 - self.box[axis].start) / (self.box[axis].stop - self.box[axis].start) for axis in (1, 2)
        ]
        return float(places[0]), float(places[1])

    def scale(self, axis: int, box: tuple[int, int]) -> float:
        """Return the pixels per millimetre with which the slice across an axis fills a box of (width, height)."""
        width, height = self.size_mm(axis)
        return min(box[0] / width, box[1] / height, _VOXEL_LIMIT / float(self.spacing.min()))


def _profiles(labels: np.ndarray) -> list[np.ndarray]:
    """Count what is not background in each slice across each axis."""
    inside = labels != 0
    over_x = np.count_nonzero(inside, axis=0)
    over_z = np.count_nonzero(inside, axis=2)
    return [over_z.sum(axis=1), over_z.sum(axis=0), over_x.sum(axis=0)]


def _best_slice(profile: np.ndarray, spacing: float, reach_mm: float) -> int:
    """Return the slice with most labelled voxels within reach of the centroid; the middle where nothing is labelled."""
    labelled = np.flatnonzero(profile)
    if not labelled.size:
        return len(profile) // 2
    away = np.abs(labelled - (labelled * profile[labelled]).sum() / profile.sum()) * spacing
    counts = np.where(away <= max(reach_mm, away.min()), profile[labelled], 0)
    best = np.flatnonzero(counts == counts.max())
    return int(labelled[best[away[best].argmin()]])


def _extent(profile: np.ndarray, spacing: float, margin_mm: float) -> slice:
    """Return what is shown along an axis: the labelled slices with a margin around; all where nothing is labelled."""
    labelled = np.flatnonzero(profile)
    if not labelled.size:
        return slice(0, len(profile))
    margin = min(int(np.ceil(margin_mm / spacing)), len(profile))
    return slice(max(int(labelled[0]) - margin, 0), min(int(labelled[-1]) + margin + 1, len(profile)))


def _grey_window(image: np.ndarray) -> tuple[float, float]:
    """Return the grey values to draw black and white: percentiles 1 and 99.5 of what is finite and not zero."""
    # Nearly equal strides along the axes of the turned array: the same voxels whatever the stored orientation.
    step = max(1, round((image.size / _SAMPLES) ** (1 / 3)))
    steps = [min(step, max(1, size // 8)) for size in image.shape]
    values = image[tuple(slice(None, None, s) for s in steps)].astype(np.float64, order="C").ravel()
    values = values[np.isfinite(values) & (values != 0)]
    if not values.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(values, (1, 99.5)))
    # A constant image has no contrast to show: zero black, its value grey.
    return (low, high) if high > low else (min(0.0, 2 * low), max(0.0, 2 * high))


@dataclass
class _Panel:
    """A drawn slice.

    Attributes:
        picture: RGB, `_SUPERSAMPLING` times as large as on the page.
        scale: pixels of the page per millimetre.
        caption: stands above.
        letters: orientation at the left, right, top and bottom edge.
    """

    picture: Image.Image
    scale: float
    caption: str
    letters: str

    @property
    def size(self) -> tuple[int, int]:
        """Width and height on the page."""
        return self.picture.width // _SUPERSAMPLING, self.picture.height // _SUPERSAMPLING

    @property
    def frame(self) -> tuple[int, int]:
        """Width and height of the black frame around, which is larger than a tiny slice."""
        width, height = self.size
        return max(width, _MIN_SIDE), max(height, _MIN_SIDE)


def _panel(view: _View, axis: int, scale: float, caption: str, colors: np.ndarray | None) -> _Panel:
    """Draw the slice across an axis, with its structures where there are colours, shape (20, 3)."""
    width, height = (max(1, round(mm * scale)) * _SUPERSAMPLING for mm in view.size_mm(axis))
    low, high = view.window
    grey = np.nan_to_num(view.cut(view.image, axis).astype(np.float64), nan=low, posinf=low, neginf=low)
    grey = np.clip((grey - low) / (high - low), 0, 1) * 255
    picture = Image.fromarray(grey.round().astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    letters = ("APSI", "RLSI", "RLAP")[axis]
    if colors is None:
        return _Panel(picture.convert("RGB"), scale, caption, letters)

    pixels = np.asarray(picture.convert("RGB")).copy()
    labels = _resize_labels(view.cut(view.labels, axis), width, height)
    inside = labels > 0
    fill = colors[labels[inside]]
    pixels[inside] = (pixels[inside] * (1 - _FILL) + fill * _FILL).round().astype(np.uint8)
    outline = _outline(labels, 3)
    pixels[outline] = np.array([_bright(color) for color in colors], dtype=np.uint8)[labels[outline]]
    if view.reference is not None:
        pixels[_outline(_resize_labels(view.cut(view.reference, axis), width, height), 2)] = _CONTOUR
    return _Panel(Image.fromarray(pixels), scale, caption, letters)


def _resize_labels(labels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resample a slice of labels to (height, width) without steps: the label with the largest share in each pixel."""
    result = np.zeros((height, width), dtype=np.uint8)
    values = [int(value) for value in np.unique(labels) if value]
    if not values:
        return result

    def share(value: int) -> np.ndarray:
        mask = Image.fromarray(np.where(labels == value, np.uint8(255), np.uint8(0)))
        return np.asarray(mask.resize((width, height), Image.Resampling.BILINEAR))

    largest = share(0).copy()
    for value in values:
        current = share(value)
        larger = current > largest
        result[larger] = value
        np.maximum(largest, current, out=largest)
    return result


def _outline(labels: np.ndarray, thickness: int) -> np.ndarray:
    """Return which labelled pixels lie within some pixels of another label."""
    edge = np.zeros(labels.shape, dtype=bool)
    for step in range(1, thickness + 1):
        for axis in (0, 1):
            if step < labels.shape[axis]:
                near, far = (np.moveaxis(edge, axis, 0)[part] for part in (slice(step, None), slice(None, -step)))
                turned = np.moveaxis(labels, axis, 0)
                differs = turned[step:] != turned[:-step]
                near |= differs
                far |= differs
    return edge & (labels > 0)


def _anchors(labels: np.ndarray) -> list[tuple[int, float, float]]:
    """Find where the names' leader lines end: value, column and row (voxels) of each structure's anterior tip."""
    found = []
    for value in np.unique(labels[labels > 0]):
        parts, count = ndimage.label(labels == value)
        if count > 1:  # a vertebra's body, not its spinous process
            parts = parts == 1 + np.bincount(parts.ravel())[1:].argmax()
        rows, columns = np.nonzero(parts)
        tip = columns.min()
        near = columns <= tip + 0.15 * (columns.max() - tip)
        found.append((int(value), float(columns[near].mean()) + 0.5, float(rows[near].mean()) + 0.5))
    return sorted(found, key=lambda anchor: anchor[2])


def _spread(wanted: Sequence[float], distance: float, low: float, high: float) -> list[float]:
    """Move ascending positions as little as possible (least squares) so that neighbours keep a distance.

    Args:
        wanted: the positions, ascending.
        distance: what neighbours keep.
        low: the first position at least.
        high: the last position at most, where there is room for all.

    Returns:
        The positions, in the same order.
    """
    # Less the distances before each, the positions only have to ascend: pool neighbours that do not.
    pools: list[list[float]] = []  # mean, count
    for index, position in enumerate(wanted):
        pools.append([position - index * distance, 1])
        while len(pools) > 1 and pools[-2][0] >= pools[-1][0]:
            mean, count = pools.pop()
            total = pools[-1][1] + count
            pools[-1] = [(pools[-1][0] * pools[-1][1] + mean * count) / total, total]
    highest = max(low, high - (len(wanted) - 1) * distance)
    flat = [min(max(mean, low), highest) for mean, count in pools for _ in range(int(count))]
    return [position + index * distance for index, position in enumerate(flat)]


@cache
def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _bright(color: Sequence[int]) -> tuple[int, int, int]:
    """Lighten a colour until it can be read on the dark page."""
    red, green, blue = (float(part) for part in color)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    share = max(0.0, (150 - luminance) / (255 - luminance)) if luminance < 150 else 0.0
    return tuple(round(part + (255 - part) * share) for part in (red, green, blue))


def _compose(view: _View, scheme: LabelScheme, title: str, measures: SpineMeasures | None) -> Image.Image:
    """Lay the panels, names and legend out on one page."""
    colors = np.zeros((len(view.counts[0]), 3))
    for structure in scheme.all_structures:
        colors[structure.value] = structure.color
    names = {structure.value: structure.name for structure in scheme.all_structures}

    scale = view.scale(0, _SAGITTAL_BOX)
    coronal_scale = min(scale, view.scale(1, _CORONAL_BOX))
    axial_scale = min(2 * scale, view.scale(2, _AXIAL_BOX))
    panels = [
        _panel(view, 0, scale, "Sagittal", colors),
        _panel(view, 0, scale, "Sagittal, image alone", None),
        _panel(view, 1, coronal_scale, "Coronal", colors),
        _panel(view, 2, axial_scale, "Axial", colors),
    ]
    lines = measure_lines(measures) if measures is not None else []
    if lines:
        panels.insert(1, _measured_panel(view, scale, measures))
    anchors = _anchors(view.cut(view.labels, 0))
    legend = _legend(view, scheme)
    text = " ".join(title.split())
    head = 64 if text else 20
    needed = [panel.frame[1] for panel in panels] + [len(anchors) * _NAME_ROW, len(lines) * _NAME_ROW, legend.height]
    body = max(needed)
    names_width = _NAMES_WIDTH if anchors else 0
    numbers_width = _NUMBERS_WIDTH if lines else 0
    width = 2 * _GAP + names_width + numbers_width + sum(panel.frame[0] + _GAP for panel in panels) + legend.width
    page = Image.new("RGB", (width, head + 24 + body + 64), _PAGE)
    draw = ImageDraw.Draw(page)

    draw.text((_GAP, 18), _shorten(text, 24, width - 2 * _GAP), font=_font(24), fill=_TEXT)

    top = head + 24
    left = _GAP + names_width
    for index, panel in enumerate(panels):
        _place(page, panel, left, top)
        if index == 0:
            _name(page, view, panel, left, top, body, anchors, names, colors)
        left += panel.frame[0] + _GAP
        if index == 1 and lines:
            _write_numbers(page, view, panel, left - _GAP, top, body, lines)
            left += _NUMBERS_WIDTH
    page.paste(legend, (left, top - 24))
    draw.text((_GAP, page.height - 26), _shorten(_footnote(view), 13, width - 2 * _GAP), font=_font(13), fill=_FAINT)
    return page


def _place(page: Image.Image, panel: _Panel, left: int, top: int) -> None:
    """Put a panel on the page, with its caption, orientation letters and scale bar."""
    draw = ImageDraw.Draw(page)
    width, height = panel.frame
    draw.rectangle((left, top, left + width - 1, top + height - 1), fill=(0, 0, 0))
    inner = (left + (width - panel.size[0]) // 2, top + (height - panel.size[1]) // 2)
    page.paste(panel.picture.reduce(_SUPERSAMPLING), inner)
    draw.text((left, top - 8), _shorten(panel.caption, 14, width), font=_font(14), fill=_FAINT, anchor="ls")

    places = (
        (5, height // 2, "lm"),
        (width - 5, height // 2, "rm"),
        (width // 2, 5, "ma"),
        (width // 2, height - 5, "md"),
    )
    for letter, (x, y, anchor) in zip(panel.letters, places, strict=True):
        style = {"font": _font(15), "fill": _TEXT, "stroke_width": 2, "stroke_fill": (0, 0, 0), "anchor": anchor}
        draw.text((left + x, top + y), letter, **style)

    # Five centimetres, or the longest shorter bar that fits below a small panel.
    lengths = [mm for mm in (50, 20, 10, 5, 2, 1) if mm * panel.scale <= panel.size[0]]
    if lengths:
        end, y = left + round(lengths[0] * panel.scale), top + height + 9
        draw.line((left, y, end, y), fill=_TEXT, width=2)
        for x in (left, end):
            draw.line((x, y - 3, x, y + 4), fill=_TEXT, width=1)
        name = f"{lengths[0] // 10} cm" if lengths[0] >= 10 else f"{lengths[0]} mm"
        draw.text((left, y + 7), name, font=_font(13), fill=_TEXT)


def _name(
    page: Image.Image,
    view: _View,
    panel: _Panel,
    left: int,
    top: int,
    body: int,
    anchors: list[tuple[int, float, float]],
    names: dict[int, str],
    colors: np.ndarray,
) -> None:
    """Write the structures' names into the margin at the left of the sagittal panel, with thin leader lines."""
    if not anchors:
        return
    (row_axis, column_axis), _ = view.plane(0)
    inner = (left + (panel.frame[0] - panel.size[0]) // 2, top + (panel.frame[1] - panel.size[1]) // 2)
    rows, columns = (view.box[axis].stop - view.box[axis].start for axis in (row_axis, column_axis))
    tips = [
        (inner[0] + column / columns * panel.size[0], inner[1] + row / rows * panel.size[1])
        for _, column, row in anchors
    ]
    heights = _spread([y for _, y in tips], _NAME_ROW, top + _NAME_ROW / 2, top + body - _NAME_ROW / 2)

    # The lines are drawn on a larger copy of that part of the page, as Pillow's own are not smooth.
    margin, end = left - _NAMES_WIDTH, left + panel.frame[0]
    big = page.crop((margin, top, end, top + body)).resize(
        ((end - margin) * _SUPERSAMPLING, body * _SUPERSAMPLING), Image.Resampling.NEAREST
    )
    draw = ImageDraw.Draw(big)
    for (value, _, _), (x, y), height in zip(anchors, tips, heights, strict=True):
        # Straight through the margin, then level: lines that keep their order never cross.
        points = ((_NAMES_WIDTH - 26, height - top), (_NAMES_WIDTH - 4, y - top), (x - margin, y - top))
        points = [(a * _SUPERSAMPLING, b * _SUPERSAMPLING) for a, b in points]
        color = _bright(colors[value])
        draw.line(points, fill=color, width=_SUPERSAMPLING, joint="curve")
        x, y = points[-1]
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=color)
    page.paste(big.reduce(_SUPERSAMPLING), (margin, top))
    draw = ImageDraw.Draw(page)
    for (value, _, _), height in zip(anchors, heights, strict=True):
        place = (left - 30, height)
        draw.text(place, names[value], font=_font(14), fill=_bright(colors[value]), anchor="rm")


def _measured_panel(view: _View, scale: float, measures: SpineMeasures) -> _Panel:
    """Draw the sagittal slice with the measures' points."""
    panel = _panel(view, 0, scale, "Sagittal, measures", None)
    width, height = panel.picture.size

    def place(point: np.ndarray) -> tuple[float, float]:
        x, y = view.sagittal_place(point)
        return x * width, y * height

    draw_measures(panel.picture, measures, place, _SUPERSAMPLING)
    return panel


def _write_numbers(
    page: Image.Image,
    view: _View,
    panel: _Panel,
    left: int,
    top: int,
    body: int,
    lines: list[tuple[str, str, np.ndarray]],
) -> None:
    """Write the measures at the right of their panel, each as near to what it is about as can be."""
    above = top + (panel.frame[1] - panel.size[1]) // 2
    wanted = sorted(
        ((above + view.sagittal_place(point)[1] * panel.size[1], kind, text) for kind, text, point in lines),
        key=lambda line: line[0],
    )
    heights = _spread([y for y, _, _ in wanted], _NAME_ROW, top + _NAME_ROW / 2, top + body - _NAME_ROW / 2)
    draw = ImageDraw.Draw(page)
    draw.text((left + 12, top - 8), "mm: front, middle, back", font=_font(14), fill=_FAINT, anchor="ls")
    for (y, kind, text), height in zip(wanted, heights, strict=True):
        draw.line((left + 1, y, left + 9, height), fill=MEASURE_COLORS[kind])
        draw.text((left + 12, height), text, font=_font(14), fill=MEASURE_COLORS[kind], anchor="lm")


def _legend(view: _View, scheme: LabelScheme) -> Image.Image:
    """Draw the table of names, colours, volumes and, with a reference, Dice."""
    drawn, reference, both = view.counts
    compared = view.reference is not None
    present = [s for s in scheme.all_structures if drawn[s.value] or reference[s.value]]
    groups = [
        ("Vertebrae", [s for s in reversed(present) if "/" not in s.name]),
        ("Discs", [s for s in reversed(present) if "/" in s.name]),
    ]
    columns = (108, 178, 236)  # right ends of: name, mL, Dice
    lines = sum(2 + len(group) for _, group in groups if group) + 4
    page = Image.new("RGB", (columns[2 if compared else 1] + 4, 24 + lines * _ROW), _PAGE)
    draw = ImageDraw.Draw(page)
    y, dice = 16, []

    def write(x: int, text: str, fill: tuple[int, int, int] = _TEXT, anchor: str = "rs", size: int = 14) -> None:
        draw.text((x, y), text, font=_font(size), fill=fill, anchor=anchor)

    for title, group in groups:
        if not group:
            continue
        write(0, title, _FAINT, "ls")
        write(columns[1], "mL", _FAINT)
        if compared:
            write(columns[2], "Dice", _FAINT)
        y += 6
        draw.line((0, y, page.width - 4, y), fill=(58, 63, 72))
        for structure in group:
            y += _ROW
            value = structure.value
            draw.rectangle((0, y - 12, 14, y + 1), fill=structure.color)
            write(24, structure.name, anchor="ls")
            fill = _TEXT if drawn[value] else _NOTE  # the reference has it and the segmentation does not
            volume = drawn[value] * view.volume_ml
            write(columns[1], f"{volume:.1f}" if volume >= 0.1 or not volume else "<0.1", fill)
            if compared and reference[value]:
                dice.append(2 * both[value] / (drawn[value] + reference[value]))
                write(columns[2], f"{dice[-1]:.3f}", fill)
            elif compared:
                write(columns[2], "-", _FAINT)
        y += int(1.7 * _ROW)
    if not drawn[1:].any():
        write(0, "no structure found", _NOTE, "ls", 16)
        y += _ROW
    if dice:
        write(0, "mean Dice", anchor="ls")
        write(columns[2], f"{np.mean(dice):.3f}")
        y += _ROW
    if compared:
        draw.line((0, y - 5, 14, y - 5), fill=_CONTOUR, width=2)
        write(24, "reference", anchor="ls")
        y += _ROW
    return page.crop((0, 0, page.width, y))


def _footnote(view: _View) -> str:
    """State what the picture's pixels stand for."""
    parts = [f"{size:.3g} mm {axis}" for size, axis in zip(view.spacing, ("R-L", "A-P", "S-I"), strict=True)]
    text = f"voxel {', '.join(parts)}; grey window {view.window[0]:.4g} to {view.window[1]:.4g}"
    if view.tilt >= 1:
        text += f"; planes follow the scan's axes, {view.tilt:.0f} degrees off the patient's"
    return text


def _shorten(text: str, size: int, width: int) -> str:
    """Cut a text that is wider than some pixels."""
    if _font(size).getlength(text) <= width:
        return text
    text = text[:width]  # no letter is narrower than a pixel
    while text and _font(size).getlength(text + "...") > width:
        text = text[:-1]
    return text + "..." if text else ""

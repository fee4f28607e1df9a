"""Read the shapes that were drawn in LabelMe."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from common.errors import InputError

__all__ = ["labelme_labels", "read_labelme"]

_SHAPES = ("polygon", "rectangle", "circle")


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror or error})", "replace or remove it") from error
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"is not valid JSON ({error})", "save it in LabelMe again") from error
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise InputError(path, "is not a file of LabelMe: it has no list 'shapes'", "save it in LabelMe again")
    return content


def labelme_labels(path: str | os.PathLike) -> set[str]:
    """Return the labels of the shapes in a file.

    Raises:
        InputError: the file is not one of LabelMe.
    """
    return {str(shape.get("label")) for shape in _read(Path(path))["shapes"]}


def read_labelme(
    path: str | os.PathLike, labels: Sequence[str] | None = None, size: tuple[int, int] | None = None
) -> np.ndarray:
    """Fill the shapes of a LabelMe file.

    The mask is the union of the shapes, their outlines included, as LabelMe's own converter draws them.

    Args:
        path: the file; polygons, rectangles (two corners) and circles (centre and a point on the rim) are known.
        labels: which shapes count; all where None.
        size: height and width of the picture, to be compared with what the file states.

    Returns:
        (H, W) booleans.

    Raises:
        InputError: the file is not one of LabelMe, was drawn on a picture of another size, states none and none is
            given, or a shape that counts has no area or is not valid.
    """
    path = Path(path)
    content = _read(path)
    height, width = _size(path, content, size)
    mask = Image.new("1", (width, height))
    draw = ImageDraw.Draw(mask)
    for number, shape in enumerate(content["shapes"]):
        if labels is None or str(shape.get("label")) in labels:
            _draw(draw, shape, f"{path} (shape {number})")
    return np.array(mask)


def _size(path: Path, content: Mapping[str, Any], size: tuple[int, int] | None) -> tuple[int, int]:
    stated = (content.get("imageHeight"), content.get("imageWidth"))
    if stated == (None, None):
        if size is None:
            raise InputError(path, "does not state the size of its picture", "save it in LabelMe again")
        return size
    if not all(isinstance(side, int) and not isinstance(side, bool) and 0 < side < 2**16 for side in stated):
        raise InputError(path, f"states a picture of {stated[1]} x {stated[0]}", "save it in LabelMe again")
    if size is not None and stated != tuple(size):
        problem = f"was drawn on {stated[1]} x {stated[0]}, but its picture is {size[1]} x {size[0]}"
        raise InputError(path, problem, "draw it on the picture that is there")
    return stated


def _draw(draw: ImageDraw.ImageDraw, shape: Mapping[str, Any], where: str) -> None:
    kind = shape.get("shape_type") or "polygon"  # the first versions of LabelMe knew polygons only
    if kind not in _SHAPES:
        raise InputError(where, f"is a '{kind}', which has no certain area", f"draw it as one of {', '.join(_SHAPES)}")
    points = shape.get("points")
    try:
        points = [(float(x), float(y)) for x, y in points]
        valid = all(math.isfinite(value) and abs(value) < 2**20 for point in points for value in point)
    except (TypeError, ValueError):
        points, valid = [], False
    if not valid or (len(points) < 3 if kind == "polygon" else len(points) != 2):
        wanted = "three points or more" if kind == "polygon" else "two points"
        raise InputError(where, f"is not a {kind} of {wanted}", "mend or delete it in LabelMe")
    if kind == "polygon":
        draw.polygon(points, fill=1, outline=1)
        return
    (x0, y0), (x1, y1) = points
    if kind == "rectangle":
        draw.rectangle([min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)], fill=1, outline=1)
    else:
        radius = math.dist(*points)
        draw.ellipse([x0 - radius, y0 - radius, x0 + radius, y0 + radius], fill=1, outline=1)

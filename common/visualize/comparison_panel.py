"""One picture in which several models' masks stand beside the reference, frame by frame."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from common.data.atomic import atomic_path
from common.visualize.model_colors import model_color
from common.visualize.outline import OUTLINE_COLOR, draw_outline
from common.visualize.scaled_mask import scaled_mask

__all__ = ["PanelMask", "PanelRow", "draw_panel", "save_panel"]

# Colours of the page, red, green, blue.
_PAGE, _TEXT, _FAINT, _WRONG = (255, 255, 255), (25, 28, 33), (120, 126, 135), (190, 30, 30)
_BANNER, _BANNER_TEXT, _KEPT_BACK = (60, 64, 72), (255, 255, 255), (170, 170, 170)
_DIMMED = 0.45  # how much light is left of a picture that the gate has not let pass

# Lengths on the page, in pixels.
_CELL, _TALLEST, _GAP, _MARGIN = 280, 280, 10, 16
_TITLE, _HEAD, _LINE, _FOOT = 34, 24, 18, 34
_LEGEND = "DSC: end to end. p: stage 1, that it is present. Grey outline: what a closed gate has kept back."


@dataclass(frozen=True)
class PanelMask:
    """What one model says of one frame.

    Args:
        mask: (H, W), what the segmenter marks, whether or not the gate lets it; None where it is not known.
        opened: whether the frame passes the gate.
        p_present: of stage 1.
        dice: end to end, the gate's closing included.
    """

    mask: np.ndarray | None
    opened: bool
    p_present: float
    dice: float


@dataclass(frozen=True)
class PanelRow:
    """One frame.

    Args:
        name: stands below it.
        picture: uint8 RGB, (H, W, 3).
        reference: (H, W), what is drawn; not zero is inside.
        models: what each model says of it.
    """

    name: str
    picture: np.ndarray
    reference: np.ndarray
    models: Sequence[PanelMask]


def draw_panel(models: Sequence[str], rows: Sequence[PanelRow], title: str = "") -> Image.Image:
    """Draw frames, one below the other, each as it is, with the reference outlined, and with each model's outline.

    Below a model's outline stand the end-to-end Dice similarity coefficient and the probability of stage 1. Where the
    gate was closed, the picture is dark and says so, and what the segmenter would have marked is outlined in grey.
    The BESS paper's figures 7 and 8 are of this kind.

    Args:
        models: their names.
        rows: at least one.
        title: stands above.

    Returns:
        The picture, mode RGB.

    Raises:
        ValueError: there are no rows, or one has another number of models.
    """
    if not rows or any(len(row.models) != len(models) for row in rows):
        raise ValueError("a panel has at least one row, and in each as many masks as there are models")
    sizes = [_fitted(row.picture.shape) for row in rows]
    captions = 2 * _LINE + 4
    top = _MARGIN + (_TITLE if title else 0) + _HEAD
    columns = 2 + len(models)
    page = Image.new(
        "RGB",
        (2 * _MARGIN + columns * _CELL + (columns - 1) * _GAP,
         top + sum(height + captions + _GAP for _, height in sizes) + _FOOT),
        _PAGE,
    )  # fmt: skip
    draw = ImageDraw.Draw(page)
    if title:
        _write(draw, (_MARGIN, _MARGIN), title, 18, _TEXT, page.width - 2 * _MARGIN)
    lefts = [_MARGIN + column * (_CELL + _GAP) for column in range(columns)]
    heads: list[tuple[str, tuple[int, int, int] | None]] = [("frame", None), ("reference", OUTLINE_COLOR)]
    heads += [(name, model_color(number)) for number, name in enumerate(models)]
    for left, (name, color) in zip(lefts, heads, strict=True):
        swatch = 0 if color is None else 20
        if color is not None:
            draw.rectangle((left, top - _HEAD + 3, left + 12, top - _HEAD + 15), fill=color, outline=_TEXT)
        _write(draw, (left + swatch, top - _HEAD), name, 15, _TEXT, _CELL - swatch)
    for row, size in zip(rows, sizes, strict=True):
        _draw_row(page, row, size, lefts, top)
        top += size[1] + captions + _GAP
    _write(draw, (_MARGIN, top - _GAP + 8), _LEGEND, 13, _FAINT, page.width - 2 * _MARGIN)
    return page


def save_panel(path: str | os.PathLike, models: Sequence[str], rows: Sequence[PanelRow], title: str = "") -> None:
    """Write the picture of :func:`draw_panel` as PNG, whole or not at all.

    Raises:
        InputError: it cannot be written.
        ValueError: as in :func:`draw_panel`.
    """
    picture = draw_panel(models, rows, title)
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")


def _draw_row(page: Image.Image, row: PanelRow, size: tuple[int, int], lefts: Sequence[int], top: int) -> None:
    draw = ImageDraw.Draw(page)
    picture = np.asarray(Image.fromarray(row.picture).resize(size, Image.Resampling.LANCZOS))
    present = bool(np.any(row.reference))
    outlined = draw_outline(picture, scaled_mask(row.reference, size), OUTLINE_COLOR)
    # A picture that is narrower than its cell stands at its left, above its caption.
    for left, cell in zip(lefts, (picture, outlined), strict=False):
        page.paste(Image.fromarray(cell), (left, top))
    below = top + size[1] + 4
    _write(draw, (lefts[0], below), row.name, 13, _TEXT, _CELL, keep_end=True)
    _write(draw, (lefts[1], below), "present" if present else "absent", 13, _TEXT, _CELL)
    for number, (left, found) in enumerate(zip(lefts[2:], row.models, strict=True)):
        page.paste(_model_cell(picture, found, size, model_color(number)), (left, top))
        text = f"DSC {found.dice:.2f}    p {found.p_present:.2f}"
        _write(draw, (left, below), text, 13, _TEXT, _CELL)
        wrong = _wrong(found, present)
        if wrong:
            _write(draw, (left, below + _LINE), wrong, 13, _WRONG, _CELL)


def _model_cell(
    picture: np.ndarray, found: PanelMask, size: tuple[int, int], color: tuple[int, int, int]
) -> Image.Image:
    mask = np.zeros(picture.shape[:2], bool) if found.mask is None else scaled_mask(found.mask, size)
    if found.opened:
        cell = Image.fromarray(draw_outline(picture, mask, color))
    else:
        dark = (picture * _DIMMED).astype(np.uint8)
        cell = Image.fromarray(draw_outline(dark, mask, _KEPT_BACK, width=1))
        _banner(cell, 0, "gate closed")
    if found.mask is None:
        _banner(cell, size[1] - 24, "mask not saved")
    return cell


def _banner(cell: Image.Image, top: int, text: str) -> None:
    draw = ImageDraw.Draw(cell)
    draw.rectangle((0, top, cell.width, top + 24), fill=_BANNER)
    draw.text((cell.width // 2, top + 12), text, fill=_BANNER_TEXT, font=_font(14), anchor="mm")


def _wrong(found: PanelMask, present: bool) -> str:
    """Say what is altogether wrong end to end."""
    if present and not found.opened:
        return "missed by the gate"
    if found.mask is None or not found.opened:
        return ""
    marked = bool(np.any(found.mask))
    if present == marked:
        return ""
    return "missed by the segmenter" if present else "false alarm"


def _fitted(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the width and height of a picture in its cell."""
    height, width = shape[:2]
    scale = min(_CELL / width, _TALLEST / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _write(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    size: int,
    color: tuple[int, int, int],
    width: int,
    keep_end: bool = False,
) -> None:
    """Write a line that is cut where it would be wider: the end of it, or its beginning, as of a path."""
    font = _font(size)

    def cut(count: int) -> str:
        return f"...{text[len(text) - count :]}" if keep_end else f"{text[:count]}..."

    if draw.textlength(text, font=font) > width:
        fitting = bisect_right(range(len(text)), width, key=lambda count: draw.textlength(cut(count), font=font))
        text = cut(max(0, fitting - 1))
    draw.text(place, text, fill=color, font=font)


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)

"""A frame with what is drawn on it and what a model marks, both as outlines."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image

from common.data.atomic import atomic_path
from common.visualize.caption import draw_caption
from common.visualize.model_colors import model_color
from common.visualize.outline import OUTLINE_COLOR, draw_outline
from common.visualize.scaled_mask import scaled_mask

__all__ = ["draw_outlined", "save_outlined"]

_SMALLEST, _LARGEST = 320, 640  # of the longer side, in pixels
_LETTERS = 26  # go into the longer side: such a picture is looked at in the third part of a page, or on a phone
_QUALITY = 88


def draw_outlined(picture: np.ndarray, reference: np.ndarray, mask: np.ndarray | None, caption: str) -> np.ndarray:
    """Draw the reference in green, a model's mask over it in orange, and a line of text.

    Args:
        picture: uint8 RGB, (H, W, 3). Its longer side is brought to between 320 and 640 pixels.
        reference: of any size; not zero is inside.
        mask: of any size; None where the model marks nothing, as a classifier does.
        caption: stands in the lower left corner.

    Returns:
        The picture, uint8 RGB.
    """
    height, width = picture.shape[:2]
    longer = max(height, width)
    scale = min(max(longer, _SMALLEST), _LARGEST) / longer
    size = max(1, round(width * scale)), max(1, round(height * scale))
    drawn = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
    drawn = draw_outline(drawn, scaled_mask(reference, size), OUTLINE_COLOR)
    if mask is not None:
        drawn = draw_outline(drawn, scaled_mask(mask, size), model_color(0))
    return draw_caption(drawn, caption, round(max(size) / _LETTERS))


def save_outlined(
    path: str | os.PathLike, picture: np.ndarray, reference: np.ndarray, mask: np.ndarray | None, caption: str
) -> None:
    """Write the picture of :func:`draw_outlined` as JPEG, whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    drawn = Image.fromarray(draw_outlined(picture, reference, mask, caption))
    with atomic_path(path) as temporary:
        # Colour at full size: otherwise thin lines fade.
        drawn.save(temporary, format="JPEG", quality=_QUALITY, subsampling=0, optimize=True)

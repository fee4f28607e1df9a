"""A line of text on frames of video."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

__all__ = ["draw_caption"]

_SMALLEST, _SMALLEST_LEGIBLE = 6, 8  # font sizes in pixels
_GROUND, _SHADE = 16, 0.7  # what lies behind the text: this grey, with this share over the picture
_TEXT = 235


def draw_caption(picture: np.ndarray, text: str, size: int | None = None) -> np.ndarray:
    """Write a line of text on a darkened bar in a frame's lower left corner; the rest stays as it is.

    The letters become smaller, down to 6 pixels, where the text would be wider than the picture. What does not fit even
    then is cut off.

    Args:
        picture: uint8 RGB, (H, W, 3).
        text: a few words.
        size: of the font in pixels; by default a twenty-eighth of the shorter side, at least 8.

    Returns:
        A new picture.
    """
    height, width = picture.shape[:2]
    size = size or max(_SMALLEST_LEGIBLE, round(min(height, width) / 28))
    while size > _SMALLEST and _letters(text, size).shape[1] > width:
        size -= 1
    drawn = picture.copy()
    letters = _letters(text, size)[-height:, :width]
    bar = drawn[height - letters.shape[0] :, : letters.shape[1]]
    ground = bar * (1 - _SHADE) + _GROUND * _SHADE
    bar[:] = np.round(ground + (_TEXT - ground) * letters[..., None])
    return drawn


@lru_cache(maxsize=128)
def _letters(text: str, size: int) -> np.ndarray:
    """Return how much of each pixel of the bar is covered by letters, (h, w) in 0..1."""
    font = ImageFont.load_default(size)
    margin = max(2, size // 3)
    left, top, right, bottom = font.getbbox(text, anchor="ls")
    # The same height for every text of a size: that of letters which reach up and down.
    top, bottom = min(top, -font.getmetrics()[0]), max(bottom, font.getmetrics()[1])
    page = Image.new("L", (round(right - left) + 2 * margin, round(bottom - top) + margin))
    ImageDraw.Draw(page).text((margin - left, margin // 2 - top), text, font=font, fill=255, anchor="ls")
    return np.asarray(page, dtype=np.float32) / 255

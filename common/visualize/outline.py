"""Masks as outlines on frames of video."""

from __future__ import annotations

import numpy as np

__all__ = ["OUTLINE_COLOR", "draw_outline"]

OUTLINE_COLOR = (0, 255, 90)  # no tissue is of this green
_EDGE = (0, 0, 0)


def draw_outline(
    picture: np.ndarray, mask: np.ndarray, color: tuple[int, int, int] = OUTLINE_COLOR, width: int | None = None
) -> np.ndarray:
    """Draw the border of a mask on a frame; what is inside and outside stays as it is.

    A dark rim on either side keeps the line visible on any tissue.

    Args:
        picture: uint8 RGB, (H, W, 3).
        mask: (H, W); what is not zero is inside.
        color: of the line.
        width: of the line in pixels; by default a two-hundredth of the shorter side, at least 2.

    Returns:
        A new picture.

    Raises:
        ValueError: mask and picture have different sizes.
    """
    inside = np.asarray(mask) != 0
    if inside.shape != picture.shape[:2]:
        raise ValueError(f"the mask has the shape {inside.shape}, the picture {picture.shape[:2]}")
    drawn = picture.copy()
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return drawn
    half = max(2, round(min(inside.shape) / 200)) if width is None else max(1, int(width))
    half = (half + 1) // 2
    # Only the box around the mask is looked at: on a large frame the rest would cost most of the time.
    margin = half + 2
    box = tuple(
        slice(max(found[0] - margin, 0), min(found[-1] + 1 + margin, size))
        for found, size in zip((rows, columns), inside.shape, strict=True)
    )
    part = inside[box]
    # Beyond the picture's edge counts as inside and as outside, so no line is drawn along it.
    grown, rest = _grown(part, half), _grown(~part, half)
    line = grown & rest
    rim = _grown(grown, 1) & _grown(rest, 1) & ~line
    for where, paint in ((rim, _EDGE), (line, color)):
        # Numbers of pixels: with booleans NumPy looks at every pixel's three colours.
        drawn[box][np.unravel_index(np.flatnonzero(where), where.shape)] = paint
    return drawn


def _grown(mask: np.ndarray, steps: int) -> np.ndarray:
    """Dilate by a square, one axis after the other: the same as scipy's, several times faster for a small square."""
    for axis in (0, 1):
        done = 0
        while done < steps:
            step = min(done + 1, steps - done)  # no further, or pixels beyond the edge would be needed
            grown = mask.copy()
            ahead, behind = [slice(None)] * 2, [slice(None)] * 2
            ahead[axis], behind[axis] = slice(step, None), slice(None, -step)
            grown[tuple(ahead)] |= mask[tuple(behind)]
            grown[tuple(behind)] |= mask[tuple(ahead)]
            mask, done = grown, done + step
    return mask

"""Colours by which models are told apart, the same in curves and panels."""

from __future__ import annotations

__all__ = ["model_color"]

# Okabe and Ito's palette, which colour-blind readers can tell apart, without its green (the reference's) and its
# yellow (not seen on white).
_COLORS = ((230, 159, 0), (86, 180, 233), (213, 94, 0), (204, 121, 167), (0, 114, 178))


def model_color(number: int) -> tuple[int, int, int]:
    """Return the colour of a model, red, green and blue; they begin again after the fifth."""
    return _COLORS[number % len(_COLORS)]

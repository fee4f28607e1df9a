"""Rotation, magnification and shift of pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.transforms import Affine

__all__ = ["similarity"]


def similarity(
    pictures: torch.Tensor,
    angle: float = 0.0,
    zoom: float = 1.0,
    shift: Sequence[float] = (0.0, 0.0),
    mode: str = "bilinear",
    padding_mode: str = "zeros",
) -> torch.Tensor:
    """Rotate about the centre, magnify both axes alike, and shift, in one interpolation.

    Args:
        pictures: (C, H, W); all channels alike.
        angle: in radians.
        zoom: above 1 makes what is seen larger.
        shift: along H and W, in pixels.
        mode: MONAI's interpolation mode, ``bilinear``, ``bicubic`` or ``nearest``.
        padding_mode: what lies beyond the border, MONAI's word for it.

    Returns:
        The pictures, of the same size, float32.
    """
    # MONAI's parameters say where the output's grid lies in the input, which is the opposite.
    move = Affine(
        rotate_params=angle,
        translate_params=[-float(way) for way in shift],
        scale_params=(1 / zoom, 1 / zoom),
        mode=mode,
        padding_mode=padding_mode,
        image_only=True,
    )
    return move(pictures)

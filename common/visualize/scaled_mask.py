"""Masks at the size of a picture."""

from __future__ import annotations

import numpy as np
from PIL import Image

__all__ = ["scaled_mask"]


def scaled_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a mask at another size, a small thing in it not lost.

    Args:
        mask: (H, W), not zero is inside.
        size: width and height.

    Returns:
        Booleans, (height, width).
    """
    values = Image.fromarray(np.where(np.asarray(mask) != 0, 255, 0).astype(np.uint8))
    grows = size[0] > values.width or size[1] > values.height
    # A mask of a coarser grid than the picture's, as networks have: its outline is to be a line, not stairs.
    scaled = np.asarray(values.resize(size, Image.Resampling.BILINEAR if grows else Image.Resampling.BOX))
    return scaled >= min(128, max(1, int(scaled.max())))

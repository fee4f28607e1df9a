"""Turn pictures upright."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["upright"]


def upright(image: np.ndarray, matrix: Sequence[int]) -> np.ndarray:
    """Apply a video's display matrix (ISO/IEC 14496-12, 8.3.2) to a picture.

    Args:
        image: (H, W, ...), as stored.
        matrix: the nine numbers a, b, u, c, d, v, x, y, w; a stored point (p, q) is shown at (a p + c q, b p + d q).

    Returns:
        The picture as it is to be shown, (H, W, ...) or, where it lies on its side, (W, H, ...).

    Raises:
        ValueError: the matrix does something else than turn by right angles and mirror.
    """
    a, b, c, d = (matrix[i] / 65536 for i in (0, 1, 3, 4))
    exact = np.array([[a, c], [b, d]])  # what becomes of p (to the right) and q (down)
    turned = np.round(exact)
    if np.abs(turned - exact).max() > 0.01 or not np.array_equal(turned @ turned.T, np.eye(2)):
        raise ValueError("it is stored turned by another angle than a right one")
    if turned[0, 0] == 0:
        image = image.swapaxes(0, 1)
    image = image[:, ::-1] if turned[0].sum() < 0 else image
    image = image[::-1] if turned[1].sum() < 0 else image
    return np.ascontiguousarray(image)

"""What the camera of the video phantom looks at in one frame, painted from the deepest layer to the nearest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Surface"]


@dataclass
class Surface:
    """The visible surface, pixel by pixel; the pixels stand in one row of N.

    Attributes:
        colour: part of the light that it gives back, red, green and blue, float32 of shape (N, 3).
        height: how near it is, in half view sizes, float32 of shape (N,).
        gloss: strength of its highlights, float32 of shape (N,).
        nerve: part of the pixel that is nerve, 0 to 1, float32 of shape (N,).
    """

    colour: np.ndarray
    height: np.ndarray
    gloss: np.ndarray
    nerve: np.ndarray

    def cover(
        self,
        pixels: np.ndarray | slice,
        part: np.ndarray,
        colour: np.ndarray,
        height: np.ndarray,
        gloss: float,
        nerve: bool = False,
        clear: float = 0.0,
    ) -> None:
        """Lay something over what is there.

        Args:
            pixels: which pixels, n of them.
            part: part of each pixel that it covers, shape (n,).
            colour: its colour, shape (n, 3).
            height: its height, shape (n,).
            gloss: strength of its highlights.
            nerve: whether it is nerve.
            clear: how much of the colour below shines through, 0 to 1; from 0.5 on, the nerve below counts as visible.
        """
        strength = (part * np.float32(1 - clear))[:, None]
        below = self.colour[pixels]
        self.colour[pixels] = below + strength * (colour - below)
        self.height[pixels] += part * (height - self.height[pixels])
        self.gloss[pixels] += part * (np.float32(gloss) - self.gloss[pixels])
        if nerve:
            self.nerve[pixels] += part * (1 - self.nerve[pixels])
        elif clear < 0.5:
            self.nerve[pixels] -= part * self.nerve[pixels]

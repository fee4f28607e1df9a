"""Which pixels of two images a mixed image takes from each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.transforms import Randomizable

__all__ = ["BoxCutMixMask"]


class BoxCutMixMask(Randomizable):
    """Draw masks of rectangles for CutMix; where two rectangles overlap, the mask is off again (XOR).

    Of an image, each of ``boxes`` rectangles has a share p of the area, uniform in ``area``, divided by the number of
    rectangles; its height is p to the power of r, uniform in [0, 1], of the image's, divided by the root of that
    number, and its place is uniform within the image. With the defaults a quarter of the pixels is on, on average.

    Source: French et al., "Semi-supervised semantic segmentation needs strong, varied perturbations", 2020,
    https://arxiv.org/abs/1906.01916, with the three rectangles and shares that Chen et al.,
    "Semi-Supervised Semantic Segmentation with Cross Pseudo Supervision", 2021, https://arxiv.org/abs/2106.01226, and
    after them the authors' program of SSHSNet (https://arxiv.org/abs/2203.12151) use.

    Args:
        boxes: number of rectangles.
        area: smallest and largest share of the area, above 0 and at most 1.

    Raises:
        ValueError: an argument is not as said.
    """

    def __init__(self, boxes: int = 3, area: Sequence[float] = (0.25, 0.5)) -> None:
        if boxes < 1 or not 0 < area[0] <= area[1] <= 1:
            raise ValueError(f"expected boxes >= 1 and 0 < area[0] <= area[1] <= 1, got {boxes} and {tuple(area)}")
        self.boxes, self.area = int(boxes), (float(area[0]), float(area[1]))

    def __call__(self, count: int, size: Sequence[int]) -> torch.Tensor:
        """Draw a mask for each of ``count`` images of ``size`` (H, W) pixels.

        Returns:
            Booleans ``(count, 1, H, W)``: True where the second image is to be taken.
        """
        masks = np.zeros((count, 1, *size), dtype=bool)
        for mask in masks[:, 0]:
            for _ in range(self.boxes):
                area, power = self.R.uniform(*self.area), self.R.uniform()
                shares = np.array([area**power, area ** (1 - power)]) / self.boxes**0.5
                height, width = np.rint(shares * size).astype(int)
                top, left = self.R.randint(size[0] - height + 1), self.R.randint(size[1] - width + 1)
                mask[top : top + height, left : left + width] ^= True
        return torch.from_numpy(masks)

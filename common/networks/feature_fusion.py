"""What PNSNet and FUnet make of the two feature maps of a frame: one map, and logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from common.networks.frame_features import HIGH_CHANNELS, LOW_CHANNELS

__all__ = ["FeatureFusion", "SegmentationHead", "resize"]

_CHANNELS = 16
_DROPOUT = 0.1


def resize(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Bilinear interpolation of ``(N, C, h, w)`` to another height and width (``align_corners=False``)."""
    return F.interpolate(x, size=[height, width], mode="bilinear", align_corners=False)


class FeatureFusion(nn.Module):
    """The first output feature layer: one map of 16 channels, as large as low, out of low and high.

    High is resized, brought to 16 channels, and each half of them convolved with a dilation of its own; low is brought
    to 16 channels; both are normalized and added.

    Source: as :class:`common.networks.frame_features.FrameFeatures`; FUnet paper, section 2.1.
    """

    def __init__(self) -> None:
        super().__init__()
        half = _CHANNELS // 2
        self.high_reduce = nn.Conv2d(HIGH_CHANNELS, _CHANNELS, 1, bias=False)
        self.high_near = nn.Conv2d(half, half, 3, padding=1, bias=False)
        self.high_far = nn.Conv2d(half, half, 3, padding=2, dilation=2, bias=False)
        self.high_norm = nn.BatchNorm2d(_CHANNELS)
        self.low_reduce = nn.Conv2d(LOW_CHANNELS, _CHANNELS, 1, bias=False)
        self.low_norm = nn.BatchNorm2d(_CHANNELS)
        self.merge = nn.Sequential(
            nn.PReLU(_CHANNELS),
            nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1, bias=False),
            nn.BatchNorm2d(_CHANNELS),
            nn.PReLU(),
        )

    def forward(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """Map low ``(N, 24, h, w)`` and high ``(N, 32, h', w')`` to ``(N, 16, h, w)``."""
        near, far = self.high_reduce(resize(high, low.shape[2], low.shape[3])).chunk(2, dim=1)
        high = self.high_norm(torch.cat([self.high_near(near), self.high_far(far)], dim=1))
        return self.merge(self.low_norm(self.low_reduce(low)) + high)


class SegmentationHead(nn.Sequential):
    """Dropout of whole channels and a 1x1 convolution without bias: ``(N, 16, h, w)`` to logits ``(N, 1, h, w)``."""

    def __init__(self) -> None:
        super().__init__(nn.Dropout2d(_DROPOUT), nn.Conv2d(_CHANNELS, 1, 1, bias=False))

"""The two feature maps of a frame that PNSNet and FUnet start with."""

from __future__ import annotations

from os import PathLike

import torch
from torch import nn

from common.networks.light_rfb import LightRFB
from common.networks.res2net import Res2Net50

__all__ = ["HIGH_CHANNELS", "LOW_CHANNELS", "FrameFeatures"]

LOW_CHANNELS = 24
HIGH_CHANNELS = 32
_MID_CHANNELS = 128


class FrameFeatures(nn.Module):
    """Backbone of three stages and a light receptive field block on each of the last two.

    Source: Ji et al., "Progressively Normalized Self-Attention Network for Video Polyp Segmentation", MICCAI 2021,
    https://arxiv.org/abs/2105.08468; FUnet (https://arxiv.org/abs/2307.10955) starts with the same.

    Args:
        pretrained_path: file with the backbone's ImageNet weights, see :meth:`Res2Net50.load_imagenet`; ``None`` or
            an empty text for none.
    """

    def __init__(self, pretrained_path: str | PathLike[str] | None = None) -> None:
        super().__init__()
        self.encoder = Res2Net50(stages=3)
        self.low_rfb = LightRFB(512, _MID_CHANNELS, LOW_CHANNELS)
        self.high_rfb = LightRFB(1024, _MID_CHANNELS, HIGH_CHANNELS)
        if pretrained_path:
            self.encoder.load_imagenet(pretrained_path)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map frames ``(N, 3, H, W)`` to low ``(N, 24, H / 8, W / 8)`` and high ``(N, 32, H / 16, W / 16)``."""
        maps = self.encoder(x)
        return self.low_rfb(maps[1]), self.high_rfb(maps[2])

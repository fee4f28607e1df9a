"""The classical 2D U-Net, whose up-sections may end in channel self-attention."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from monai.networks.nets.basic_unet import Down, TwoConv
from torch import nn

from common.networks.channel_self_attention import ChannelSelfAttention

__all__ = ["ClassicalUNet"]

_ACT = ("relu", {"inplace": True})


def _two_conv(in_channels: int, out_channels: int) -> TwoConv:
    return TwoConv(2, in_channels, out_channels, act=_ACT, norm="batch", bias=False)


class Up(nn.Module):
    """Transposed convolution, concatenation behind the skip, two convolutions, attention.

    MONAI's ``UpCat`` fills up an odd size with copies of the edge and on one side only; the classical one with zeros
    on both.

    Args:
        in_channels: channels of the input; the skip and the output have half of them.
        attention: what follows the convolutions.
    """

    def __init__(self, in_channels: int, attention: nn.Module) -> None:
        super().__init__()
        self.upsample = nn.ConvTranspose2d(in_channels, in_channels // 2, 2, stride=2)
        self.convs = _two_conv(in_channels, in_channels // 2)
        self.attention = attention

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Map ``(N, C, h, w)`` and a skip ``(N, C / 2, 2h or 2h + 1, 2w or 2w + 1)`` to the skip's shape."""
        x = self.upsample(x)
        rows, columns = skip.shape[2] - x.shape[2], skip.shape[3] - x.shape[3]
        if rows > 0 or columns > 0:
            x = F.pad(x, [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2])
        return self.attention(self.convs(torch.cat([skip, x], dim=1)))


class ClassicalUNet(nn.Module):
    """U-Net with batch normalization and padded convolutions, in two halves that can be called on their own.

    Source: Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015,
    https://arxiv.org/abs/1505.04597; the attention at the end of the up-sections as in the FUnet paper,
    https://arxiv.org/abs/2307.10955, figure 2.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, to which a 1x1 convolution with bias brings the first width.
        features: widths from the input's size down; each level halves the size and doubles the width.
        grid: height and width of the input that is trained with, for the attention.
        attention: whether up-sections end in channel self-attention.
        pos_init_std: see :class:`ChannelSelfAttention`.

    Raises:
        ValueError: ``features`` do not double from level to level.

    Shapes:
        input ``(N, in_channels, h, w)``, h and w at least ``2 ** (len(features) - 1)``; output
        ``(N, out_channels, h, w)``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        features: Sequence[int],
        grid: Sequence[int],
        attention: bool = True,
        pos_init_std: float = 1.0,
    ) -> None:
        super().__init__()
        if len(features) < 2 or any(deep != 2 * width for width, deep in pairwise(features)):
            raise ValueError(f"expected two or more `features`, each twice the one before, got {tuple(features)}")
        self.first = _two_conv(in_channels, features[0])
        self.downs = nn.ModuleList(Down(2, width, 2 * width, _ACT, "batch", bias=False) for width in features[:-1])
        self.ups = nn.ModuleList()
        for level in reversed(range(len(features) - 1)):
            size = [side // 2**level for side in grid]
            csa = ChannelSelfAttention(features[level], size, pos_init_std=pos_init_std) if attention else nn.Identity()
            self.ups.append(Up(features[level + 1], csa))
        self.last = nn.Conv2d(features[0], out_channels, 1)
        self.divisor = 2 ** len(self.downs)

    def encode(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Compute the maps of all levels, ``(N, features[i], h / 2 ** i, w / 2 ** i)``, sizes rounded down.

        Raises:
            ValueError: in training mode, one example so small that batch normalization sees a single position.
        """
        if self.training and x.shape[0] == 1 and max(x.shape[2], x.shape[3]) < 2 * self.divisor:
            raise ValueError(
                "a single frame of this size cannot be trained on: its deepest map has one position, and batch "
                "normalization needs two values; use two frames or more (batch size times clip length)"
            )
        maps = [self.first(x)]
        for down in self.downs:
            maps.append(down(maps[-1]))
        return maps

    def decode(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Map the levels' maps to ``(N, out_channels, h, w)``."""
        x = maps[-1]
        for i, up in enumerate(self.ups):
            x = up(x, maps[len(maps) - 2 - i])
        return self.last(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(N, in_channels, h, w)`` to ``(N, out_channels, h, w)``."""
        return self.decode(self.encode(x))

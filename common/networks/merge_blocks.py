"""Merge blocks of the U-Net family: how a level's skip and the map from below come together."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from common.networks.convolution_blocks import conv_norm_relu

__all__ = ["AttentionMerge", "StandardMerge"]


def _double(x: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class StandardMerge(nn.Module):
    """Nearest upsampling and a 3x3 convolution of the map from below, then concatenation behind the skip.

    Args:
        skip_channels: channels of the skip, to which the convolution brings the map from below.
        deep_channels: channels of the map from below.

    Shapes:
        map from below ``(N, deep_channels, h, w)``, skip ``(N, skip_channels, 2h, 2w)``, output
        ``(N, out_channels, 2h, 2w)`` with ``out_channels = 2 * skip_channels``.
    """

    def __init__(self, skip_channels: int, deep_channels: int) -> None:
        super().__init__()
        self.out_channels = 2 * skip_channels
        self.conv = conv_norm_relu(deep_channels, skip_channels)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Merge the map from below ``x`` and the level's ``skip``."""
        return torch.cat([skip, self.conv(_double(x))], dim=1)


class AttentionMerge(nn.Module):
    """Additive attention on the skip, then concatenation with the map from below, upsampled without a convolution.

    The attention is ``sigmoid(psi(relu(skip_map(skip) + deep_map(x))))``, one value a pixel at the skip's resolution,
    out of 1x1 convolutions with bias; the skip is multiplied by it. It has no normalization, and the map from below no
    convolution of its own: only so do the published counts of parameters and operations come out. For both reasons
    MONAI's ``AttentionBlock`` and ``AttentionUnet`` are others.

    Source of the attention: Oktay et al., "Attention U-Net", 2018, https://arxiv.org/abs/1804.03999.

    Args:
        skip_channels: channels of the skip.
        deep_channels: channels of the map from below.
        attention_channels: channels of the maps that the attention is made of ("C_attn").

    Shapes:
        map from below ``(N, deep_channels, h, w)``, skip ``(N, skip_channels, 2h, 2w)``, output
        ``(N, out_channels, 2h, 2w)`` with ``out_channels = skip_channels + deep_channels``.
    """

    def __init__(self, skip_channels: int, deep_channels: int, attention_channels: int) -> None:
        super().__init__()
        self.out_channels = skip_channels + deep_channels
        self.skip_map = nn.Conv2d(skip_channels, attention_channels, 1)
        self.deep_map = nn.Conv2d(deep_channels, attention_channels, 1)
        self.psi = nn.Conv2d(attention_channels, 1, 1)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Merge the map from below ``x`` and the level's ``skip``."""
        x = _double(x)
        attention = self.psi(F.relu(self.skip_map(skip) + self.deep_map(x))).sigmoid()
        return torch.cat([attention * skip, x], dim=1)

"""The decoder of DeepLabv3+, in 2D and, anisotropic, in 3D."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks import Convolution
from torch import nn

from common.networks.blocks import conv_norm_act

__all__ = ["DeepLabDecoder"]


class _SeparableConvolution(nn.Sequential):
    """A 3-wide convolution of each channel by itself, one of size 1 over the channels, normalization and ReLU."""

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: Sequence[int] | int = 3,
        dilation: Sequence[int] | int = 1,
    ) -> None:
        super().__init__(
            Convolution(
                spatial_dims,
                in_channels,
                in_channels,
                kernel_size=kernel_size,
                dilation=dilation,
                groups=in_channels,
                bias=False,
                conv_only=True,
            ),
            conv_norm_act(spatial_dims, in_channels, out_channels, 1),
        )


class _SeparableASPP(nn.Module):
    """Atrous spatial pyramid pooling of separable convolutions, all branches normalized, with dropout at the end.

    :class:`common.networks.aspp.ASPP` has full convolutions, and no normalization in the image-level branch.
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, channels: int, rates: Sequence[Sequence[int] | int], dropout: float
    ) -> None:
        super().__init__()
        self.spatial_axes = list(range(2, spatial_dims + 2))
        self.branches = nn.ModuleList([conv_norm_act(spatial_dims, in_channels, channels, 1)])
        for rate in rates:
            dilation = rate if isinstance(rate, int) else tuple(rate)
            self.branches.append(_SeparableConvolution(spatial_dims, in_channels, channels, dilation=dilation))
        self.image_level = conv_norm_act(spatial_dims, in_channels, channels, 1)
        self.project = conv_norm_act(spatial_dims, channels * (len(self.branches) + 1), channels, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = [branch(x) for branch in self.branches]
        # On one position any interpolation is a copy to all positions.
        image_level = self.image_level(x.mean(dim=self.spatial_axes, keepdim=True))
        maps.append(image_level.expand_as(maps[0]))
        return self.dropout(self.project(torch.cat(maps, dim=1)))


class DeepLabDecoder(nn.Module):
    """The decoder of DeepLabv3+ up to its feature map at the low-level map's resolution.

    The deep map goes through atrous spatial pyramid pooling (a convolution of size 1, separable ones with each of the
    rates, and the mean over all positions), a separable convolution, and linear interpolation to the size of the
    low-level map (``align_corners=True``). The low-level map, reduced to few channels, is put beside it, and a last
    separable convolution makes one map of both; in 3D that one is 3 x 3 x 1, all others are 3-wide along every axis.
    Convolutions have no bias; normalization and ReLU follow each, within a separable one only the second.

    What the rates mean here: a tap as far from the centre as the map is wide, or farther, sees padding only. With the
    paper's rates of 12, 24 and 36, on the 16 x 32 map of a 256 x 512 image 9, 3 and 1 of the 9 taps are alive; on the
    12 x 12 x 12 map of SSHSNet's 3D patches it is 1 of 27 for each rate, so that the depthwise convolutions only scale
    the channels, and no voxel sees another. Rates such as ``((2, 2, 1), (4, 4, 2), (6, 6, 3))`` keep all taps alive
    there: a variant of ours, not the paper's, with the same parameters.

    Source: Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation"
    (DeepLabv3+), 2018, https://arxiv.org/abs/1802.02611, section 3; used in 2D and 3D by "Semi-supervised hybrid spine
    network for segmentation of spine MR images" (SSHSNet), 2022, https://arxiv.org/abs/2203.12151, with the sizes of
    the authors' program.

    Args:
        spatial_dims: number of spatial axes, 2 or 3; in 3D the slice axis is the last one.
        in_channels: channels of the deep map.
        low_level_channels: channels of the low-level map.
        channels: of the pyramid and of the output.
        low_level_reduced: channels that the low-level map is reduced to.
        aspp_rates: dilation of each atrous branch, one number or one an axis.
        dropout: probability after the pyramid.

    Raises:
        ValueError: a rate is not positive, or has not one number an axis.

    Shapes:
        low-level map ``(N, low_level_channels, H, W[, D])``, deep map ``(N, in_channels, H / 4, W / 4[, D])`` or any
        other size; output ``(N, channels, H, W[, D])``.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int = 2048,
        low_level_channels: int = 256,
        channels: int = 256,
        low_level_reduced: int = 48,
        aspp_rates: Sequence[Sequence[int] | int] = (12, 24, 36),
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        for rate in aspp_rates:
            axes = [rate] * spatial_dims if isinstance(rate, int) else list(rate)
            if len(axes) != spatial_dims or min(axes) < 1:
                raise ValueError(
                    "DeepLabDecoder expects `aspp_rates` to be positive, one number or "
                    f"{spatial_dims} for each branch, got {list(aspp_rates)}"
                )
        self.interpolation = "bilinear" if spatial_dims == 2 else "trilinear"
        self.pyramid = nn.Sequential(
            _SeparableASPP(spatial_dims, in_channels, channels, aspp_rates, dropout),
            _SeparableConvolution(spatial_dims, channels, channels),
        )
        self.reduce = conv_norm_act(spatial_dims, low_level_channels, low_level_reduced, 1)
        self.fuse = _SeparableConvolution(
            spatial_dims, channels + low_level_reduced, channels, kernel_size=(3, 3, 1)[:spatial_dims]
        )

    def forward(self, low_level: torch.Tensor, deep: torch.Tensor) -> torch.Tensor:
        """Make one feature map of the encoder's last and its second.

        Args:
            low_level: feature map ``(N, low_level_channels, H, W[, D])``.
            deep: feature map ``(N, in_channels, h, w[, d])``.

        Returns:
            Feature map ``(N, channels, H, W[, D])``.

        Raises:
            ValueError: in training mode, the batch has one example: its mean over all positions has no variance that
                the image-level branch could normalize by.
        """
        if self.training and deep.shape[0] < 2:
            raise ValueError(f"DeepLabDecoder expects at least 2 examples in training, got {deep.shape[0]}")
        deep = self.pyramid(deep)
        deep = F.interpolate(deep, size=low_level.shape[2:], mode=self.interpolation, align_corners=True)
        return self.fuse(torch.cat([deep, self.reduce(low_level)], dim=1))

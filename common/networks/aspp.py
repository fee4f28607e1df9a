"""Atrous spatial pyramid pooling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from torch import nn

from common.networks.blocks import conv_norm_act

__all__ = ["ASPP"]


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling with an image-level branch, for 2D and 3D.

    Branches side by side: a convolution of size 1, one 3-wide convolution for each rate, and the mean over all
    positions followed by a convolution of size 1 and spread over the map again; their concatenation is brought to
    ``out_channels`` by a convolution of size 1. Every convolution has normalization and ReLU, but for the image-level
    one, which has a bias and ReLU: it sees one position, over which a batch of one has no variance to normalize by.

    MONAI's ``SimpleASPP`` has no image-level branch and no projection.

    Source: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation" (DeepLabv3), 2017,
    https://arxiv.org/abs/1706.05587, section 3.3.

    Args:
        spatial_dims: number of spatial axes, 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of every branch and of the output.
        rates: dilation of each 3-wide convolution, one number or one an axis.
        norm: normalization type and arguments as MONAI's ``Norm`` factory takes them.
        act: activation type and arguments as MONAI's ``Act`` factory takes them.

    Shapes:
        input ``(B, in_channels, ...)``, output ``(B, out_channels, ...)``, the spatial sizes unchanged.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        rates: Sequence[Sequence[int] | int] = (6, 12, 18),
        norm: tuple | str = "batch",
        act: tuple | str = ("relu", {"inplace": True}),
    ) -> None:
        super().__init__()
        self.spatial_axes = list(range(2, spatial_dims + 2))
        self.branches = nn.ModuleList([conv_norm_act(spatial_dims, in_channels, out_channels, 1, norm=norm, act=act)])
        for rate in rates:
            dilation = rate if isinstance(rate, int) else tuple(rate)
            self.branches.append(
                conv_norm_act(spatial_dims, in_channels, out_channels, dilation=dilation, norm=norm, act=act)
            )
        self.image_level = conv_norm_act(spatial_dims, in_channels, out_channels, 1, norm=None, act=act)
        self.project: Convolution = conv_norm_act(
            spatial_dims, out_channels * (len(self.branches) + 1), out_channels, 1, norm=norm, act=act
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the pyramid.

        Args:
            x: feature map ``(B, in_channels, ...)``.

        Returns:
            Feature map ``(B, out_channels, ...)`` of the same spatial size.
        """
        maps = [branch(x) for branch in self.branches]
        # On one position any interpolation is a copy to all positions.
        image_level = self.image_level(x.mean(dim=self.spatial_axes, keepdim=True))
        maps.append(image_level.expand_as(maps[0]))
        return self.project(torch.cat(maps, dim=1))

"""Cascade fusion network for anisotropic volumes, a network that SAFNet is compared with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.networks.blocks import Convolution, ResidualUnit
from monai.networks.layers.factories import Conv
from torch import nn

from common.networks.blocks import check_input

__all__ = ["CFNet"]

_HALVE = (1, 2, 2)  # in-plane


def _unit(channels: int) -> ResidualUnit:
    return ResidualUnit(3, channels, channels, act="gelu", norm="batch", bias=False)


def _down(in_channels: int, out_channels: int) -> Convolution:
    return Convolution(3, in_channels, out_channels, strides=_HALVE, act="gelu", norm="batch", bias=False)


class FocalBlock(nn.Module):
    """Two dilated depthwise convolutions, one after the other, each added to its input, then a pointwise MLP.

    They widen the field of view of the smallest maps, so that fine and coarse surroundings are seen at once (CFNet
    paper, "focal block").

    Args:
        channels: of the map.
        dilations: in-plane, of the two convolutions.
    """

    def __init__(self, channels: int, dilations: tuple[int, int] = (2, 3)) -> None:
        super().__init__()
        self.wide = nn.ModuleList(
            [
                Convolution(
                    3, channels, channels, kernel_size=(1, 3, 3), dilation=(1, rate, rate), groups=channels,
                    act="gelu", norm="batch", bias=False,
                )
                for rate in dilations
            ]
        )  # fmt: skip
        self.mlp = nn.Sequential(
            Convolution(3, channels, 4 * channels, kernel_size=1, act="gelu", norm="batch", bias=False),
            Convolution(3, 4 * channels, channels, kernel_size=1, act=None, norm="batch", bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(B, channels, D, H, W)`` to the same shape."""
        for convolution in self.wide:
            x = x + convolution(x)
        return x + self.mlp(x)


class CascadeStage(nn.Module):
    """Extract maps of three scales from the finest one, and fuse them into it by addition (transition block).

    Args:
        channels: of the finest map; 2 and 4 times as many on the others.
        units: residual units on each of the two finer maps.
    """

    def __init__(self, channels: int, units: int) -> None:
        super().__init__()
        self.fine = nn.Sequential(*[_unit(channels) for _ in range(units)])
        self.middle = nn.Sequential(_down(channels, 2 * channels), *[_unit(2 * channels) for _ in range(units)])
        self.coarse = nn.Sequential(_down(2 * channels, 4 * channels), FocalBlock(4 * channels))
        self.from_middle = Convolution(3, 2 * channels, channels, kernel_size=1, act=None, norm="batch", bias=False)
        self.from_coarse = Convolution(3, 4 * channels, channels, kernel_size=1, act=None, norm="batch", bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(B, channels, D, H, W)`` to the same shape; H and W multiples of 4."""
        fine = self.fine(x)
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        middle = F.interpolate(self.from_middle(middle), scale_factor=(1.0, 2.0, 2.0), mode="nearest")
        coarse = F.interpolate(self.from_coarse(coarse), scale_factor=(1.0, 4.0, 4.0), mode="nearest")
        return F.gelu(fine + middle + coarse)


class CFNet(nn.Module):
    """Cascade fusion network: after a stem, stages that each extract three scales and fuse them, one after the other.

    Source: Zhang et al., "CFNet: Cascade Fusion Network for Dense Prediction", 2023, https://arxiv.org/abs/2302.06052,
    a network for photographs. The SAFNet paper compares itself with it and does not say how it was brought to 3D; this
    reading acts in-plane (H, W), as sagittal slices are some 4 mm thick: a stem of two strided convolutions (H/4, W/4),
    residual units there, then ``stages`` cascaded stages on maps of 1/4, 1/8 and 1/16, and a classifier on the last
    fused map. Batch normalization in the place of layer normalization, residual units (MONAI's) in that of ConvNeXt
    blocks.

    Args:
        in_channels: channels of the input.
        out_channels: classes, the background included.
        features: channels of the finest map of a stage.
        stages: how many stages.
        units: residual units before the stages, and on each of the two finer maps of a stage.
    """

    def __init__(
        self, in_channels: int = 1, out_channels: int = 18, features: int = 64, stages: int = 3, units: int = 1
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.stem = nn.Sequential(_down(in_channels, features // 2), _down(features // 2, features))
        self.first = nn.Sequential(*[_unit(features) for _ in range(units)])
        self.stages = nn.Sequential(*[CascadeStage(features, units) for _ in range(stages)])
        self.classifier = Conv[Conv.CONV, 3](features, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Segment a batch of volumes.

        Args:
            x: normalized intensities ``(B, in_channels, D, H, W)``; H and W multiples of 16, any D.

        Returns:
            Logits ``(B, out_channels, D, H, W)``.

        Raises:
            ValueError: the input has another rank, number of channels, or an H or W that is no multiple of 16.
        """
        check_input(x, "CFNet", self.in_channels, [1, 16, 16])
        logits = self.classifier(self.stages(self.first(self.stem(x))))
        return F.interpolate(logits, size=x.shape[2:], mode="trilinear", align_corners=False)

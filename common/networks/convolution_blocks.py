"""Convolution blocks of the U-Net family: standard, residual and recurrent residual."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.networks.blocks import Convolution
from torch import nn

__all__ = ["RecurrentResidualBlock", "RecurrentUnit", "ResidualBlock", "StandardBlock", "conv_norm_relu"]


def conv_norm_relu(in_channels: int, out_channels: int, relu: bool = True) -> Convolution:
    """3x3 convolution that keeps the size, with bias, batch normalization and, with ``relu``, a ReLU.

    The normalization takes the bias away again; it is there because the published parameter counts contain it.
    """
    return Convolution(2, in_channels, out_channels, act=("relu", {"inplace": True}) if relu else None, norm="batch")


class StandardBlock(nn.Sequential):
    """Two 3x3 convolutions, each with batch normalization and ReLU.

    Args:
        in_channels: channels of the input.
        inter_channels: channels between the two ("C_inter").
        out_channels: channels of the output ("C_out").

    Shapes:
        input ``(N, in_channels, h, w)``, output ``(N, out_channels, h, w)``.
    """

    def __init__(self, in_channels: int, inter_channels: int, out_channels: int) -> None:
        super().__init__(conv_norm_relu(in_channels, inter_channels), conv_norm_relu(inter_channels, out_channels))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch normalization, and a 1x1 convolution of the input beside them.

    The second ReLU follows the sum, as in ResNet. Arguments and shapes are those of :class:`StandardBlock`.
    """

    def __init__(self, in_channels: int, inter_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            conv_norm_relu(in_channels, inter_channels), conv_norm_relu(inter_channels, out_channels, relu=False)
        )
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(N, in_channels, h, w)`` to ``(N, out_channels, h, w)``."""
        return F.relu(self.convs(x) + self.shortcut(x))


class RecurrentUnit(nn.Module):
    """A convolution that is applied again and again to the sum of the input and its own last output.

    ``y = f(x)``, then ``steps`` times ``y = f(x + y)``; f is a 3x3 convolution with batch normalization and ReLU.

    Args:
        channels: channels of input and output.
        steps: how often the output is fed back ("t").
        shared: whether all ``steps + 1`` applications have the same weights and statistics, or each its own.

    Shapes:
        input and output ``(N, channels, h, w)``.
    """

    def __init__(self, channels: int, steps: int, shared: bool) -> None:
        super().__init__()
        self.first = conv_norm_relu(channels, channels)
        self.own = nn.ModuleList(conv_norm_relu(channels, channels) for _ in range(0 if shared else steps))
        self.repeats = steps if shared else 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(N, channels, h, w)`` to the same shape."""
        y = self.first(x)
        for _ in range(self.repeats):
            y = self.first(x + y)
        for conv in self.own:
            y = conv(x + y)
        return y


class RecurrentResidualBlock(nn.Module):
    """1x1 convolution, and two recurrent units one after the other around which its output is added ("R2").

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        steps: of the recurrent units.
        shared: of the recurrent units.

    Shapes:
        input ``(N, in_channels, h, w)``, output ``(N, out_channels, h, w)``.
    """

    def __init__(self, in_channels: int, out_channels: int, steps: int, shared: bool) -> None:
        super().__init__()
        self.project = nn.Conv2d(in_channels, out_channels, 1)
        self.units = nn.Sequential(
            RecurrentUnit(out_channels, steps, shared), RecurrentUnit(out_channels, steps, shared)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(N, in_channels, h, w)`` to ``(N, out_channels, h, w)``."""
        x = self.project(x)
        return x + self.units(x)

"""MobileNetV3-Large, a classifier of 2D images."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["MobileNetV3Large"]

# Kernel, expanded channels, output channels, hidden channels of squeeze-and-excitation (0: none), hard-swish (or ReLU),
# stride. The hidden channels are a quarter of the expanded ones, rounded to a multiple of 8 as in the reference
# implementation: never down by more than a tenth.
_ROWS = (
    (3, 16, 16, 0, False, 1),
    (3, 64, 24, 0, False, 2),
    (3, 72, 24, 0, False, 1),
    (5, 72, 40, 24, False, 2),
    (5, 120, 40, 32, False, 1),
    (5, 120, 40, 32, False, 1),
    (3, 240, 80, 0, True, 2),
    (3, 200, 80, 0, True, 1),
    (3, 184, 80, 0, True, 1),
    (3, 184, 80, 0, True, 1),
    (3, 480, 112, 120, True, 1),
    (3, 672, 112, 168, True, 1),
    (5, 672, 160, 168, True, 2),
    (5, 960, 160, 240, True, 1),
    (5, 960, 160, 240, True, 1),
)
_STEM_CHANNELS = 16
_LAST_CHANNELS = 960
_HIDDEN_CHANNELS = 1280


def _conv(
    in_channels: int, out_channels: int, kernel_size: int, act: nn.Module, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution without bias, batch normalization, activation; MONAI's ``Act`` factory has no hard-swish."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.01),
        act,
    )


def _act(hard_swish: bool) -> nn.Module:
    return nn.Hardswish(inplace=True) if hard_swish else nn.ReLU(inplace=True)


class _SqueezeExcitation(nn.Module):
    """Weighs the channels by what their means say; MONAI's ``ChannelSELayer`` rounds the hidden channels otherwise."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels), nn.Hardsigmoid()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x.mean(dim=[2, 3]))[:, :, None, None]


class _InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, squeeze-and-excitation, linear 1x1 projection."""

    def __init__(
        self,
        in_channels: int,
        kernel_size: int,
        expanded: int,
        out_channels: int,
        squeezed: int,
        swish: bool,
        stride: int,
    ) -> None:
        super().__init__()
        expand = [_conv(in_channels, expanded, 1, _act(swish))] if expanded != in_channels else []
        weigh = [_SqueezeExcitation(expanded, squeezed)] if squeezed else []
        self.layers = nn.Sequential(
            *expand,
            _conv(expanded, expanded, kernel_size, _act(swish), stride, groups=expanded),
            *weigh,
            _conv(expanded, out_channels, 1, nn.Identity()),
        )
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layers(x)
        return x + y if self.residual else y


class MobileNetV3Large(nn.Module):
    """MobileNetV3-Large of width 1.

    Source: Howard et al., "Searching for MobileNetV3", 2019, https://arxiv.org/abs/1905.02244, table 1; constants of
    the normalization and the dropout of 0.2 as in its reference implementation.

    Args:
        num_classes: number of outputs.
        dropout: probability before the last layer.

    Shapes:
        input ``(N, 3, H, W)`` of any size from 1 x 1, the paper's is 224 x 224; output ``(N, num_classes)``.
    """

    def __init__(self, num_classes: int = 1, dropout: float = 0.2) -> None:
        super().__init__()
        layers = [_conv(3, _STEM_CHANNELS, 3, _act(True), stride=2)]
        channels = _STEM_CHANNELS
        for kernel_size, expanded, out_channels, squeezed, swish, stride in _ROWS:
            layers.append(_InvertedResidual(channels, kernel_size, expanded, out_channels, squeezed, swish, stride))
            channels = out_channels
        layers.append(_conv(channels, _LAST_CHANNELS, 1, _act(True)))
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(_LAST_CHANNELS, _HIDDEN_CHANNELS),
            nn.Hardswish(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(_HIDDEN_CHANNELS, num_classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(N, 3, H, W)`` to ``(N, num_classes)``."""
        return self.head(self.features(x).mean(dim=[2, 3]))

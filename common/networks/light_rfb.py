"""Light receptive field block: wide context at few channels."""

from __future__ import annotations

import torch
from monai.networks.blocks import Convolution
from torch import nn

__all__ = ["LightRFB"]

_GATE_REDUCTION = 4
_BRANCH_KERNELS = (1, 3, 5, 7)
# Of the branches and the output; the reduction keeps PyTorch's 0.1.
_MOMENTUM = 0.01


def _conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    dilation: int = 1,
    groups: int = 1,
    act: tuple | str | None = None,
    momentum: float = _MOMENTUM,
) -> Convolution:
    return Convolution(
        spatial_dims=2,
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=kernel_size,
        dilation=dilation,
        groups=groups,
        norm=("batch", {"momentum": momentum}),
        act=act,
        bias=False,
    )


def _branch(channels: int, size: int) -> nn.Sequential:
    """Depthwise ``size``, 1x1 with activation, depthwise 3x3 with dilation ``size``; the first is left out at 1."""
    near = [_conv(channels, channels, size, groups=channels)] if size > 1 else []
    mix = _conv(channels, channels, act="prelu")
    return nn.Sequential(*near, mix, _conv(channels, channels, 3, dilation=size, groups=channels))


class LightRFB(nn.Module):
    """Light receptive field block (2D).

    - ``gate``: squeeze-and-excitation on the input, whose last activation is the hard sigmoid.
    - ``reduce``: 1x1 convolution to ``mid_channels`` with batch normalization and a PReLU with a slope per channel.
    - ``branches``: four side by side, of reach 1, 3, 5 and 7, out of depthwise and 1x1 convolutions.
    - ``project``: 1x1 convolution of the ungated input and the branches to ``out_channels``, with batch normalization
      and PReLU.

    Source: Ji et al., "Progressively Normalized Self-Attention Network for Video Polyp Segmentation", MICCAI 2021,
    https://arxiv.org/abs/2105.08468, whose feature maps FUnet (https://arxiv.org/abs/2307.10955) reduces with it and
    whose shape its inter-frame attention has.

    Args:
        in_channels: channels of the input, at least 4.
        mid_channels: channels of each branch.
        out_channels: channels of the output.

    Shapes:
        input ``(N, in_channels, h, w)``, output ``(N, out_channels, h, w)``.
    """

    def __init__(self, in_channels: int, mid_channels: int, out_channels: int) -> None:
        super().__init__()
        hidden = in_channels // _GATE_REDUCTION
        self.gate = nn.Sequential(
            nn.Linear(in_channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, in_channels), nn.Hardsigmoid()
        )
        slopes = ("prelu", {"num_parameters": mid_channels})
        self.reduce = _conv(in_channels, mid_channels, act=slopes, momentum=0.1)
        self.branches = nn.ModuleList([_branch(mid_channels, size) for size in _BRANCH_KERNELS])
        self.project = _conv(in_channels + len(_BRANCH_KERNELS) * mid_channels, out_channels, act="prelu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(N, in_channels, h, w)`` to ``(N, out_channels, h, w)``."""
        gate = self.gate(x.mean(dim=[2, 3]))
        reduced = self.reduce(x * gate[:, :, None, None])
        maps = [x]
        for branch in self.branches:
            maps.append(branch(reduced))
        return self.project(torch.cat(maps, dim=1))

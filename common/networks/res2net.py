"""Res2Net-50 v1b 26w-4s: the backbone of PNSNet and FUnet."""

from __future__ import annotations

from os import PathLike

import torch
import torch.nn.functional as F
from torch import nn

from common.networks.pretrained import load_pretrained

__all__ = ["Res2Net50"]

_PLANES = (64, 128, 256, 512)
_BLOCKS = (3, 4, 6, 3)
_EXPANSION = 4
_SCALES = 4
_BASE_WIDTH = 26


def _conv3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


class Res2NetBlock(nn.Module):
    """Bottleneck whose 3x3 convolution works on four groups of channels (Gao et al., section 3.1).

    Within a stage each group but the last is convolved after the result of the group before has been added, so the
    groups see ever wider surroundings; the last one passes. The first block of a stage changes size and channels: there
    the groups are convolved on their own, and the last one is averaged (3x3).

    Args:
        in_channels: channels of the input.
        planes: base width; the block has ``4 * planes`` output channels.
        stride: of a stage's first block.
        first: this is a stage's first block.
    """

    def __init__(self, in_channels: int, planes: int, stride: int = 1, first: bool = False) -> None:
        super().__init__()
        self.first = first
        self.stride = stride
        self.width = planes * _BASE_WIDTH // 64
        out_channels = planes * _EXPANSION
        # The names of the published weights.
        self.conv1 = nn.Conv2d(in_channels, self.width * _SCALES, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(self.width * _SCALES)
        self.convs = nn.ModuleList([_conv3(self.width, self.width, stride) for _ in range(_SCALES - 1)])
        self.bns = nn.ModuleList([nn.BatchNorm2d(self.width) for _ in range(_SCALES - 1)])
        self.conv3 = nn.Conv2d(self.width * _SCALES, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module = nn.Identity()
        if first:
            self.downsample = nn.Sequential(
                nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False),
                nn.Conv2d(in_channels, out_channels, 1, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(N, in_channels, h, w)`` to ``(N, 4 * planes, ceil(h / stride), ceil(w / stride))``."""
        groups = F.relu(self.bn1(self.conv1(x))).split(self.width, dim=1)
        maps: list[torch.Tensor] = []
        for i, (conv, norm) in enumerate(zip(self.convs, self.bns, strict=True)):
            group = groups[i] if self.first or i == 0 else groups[i] + maps[-1]
            maps.append(F.relu(norm(conv(group))))
        last = groups[-1]
        maps.append(F.avg_pool2d(last, 3, self.stride, padding=1) if self.first else last)
        return F.relu(self.bn3(self.conv3(torch.cat(maps, dim=1))) + self.downsample(x))


class Res2Net50(nn.Module):
    """Res2Net-50 v1b 26w-4s: 26 channels in each of 4 groups, three 3x3 convolutions as stem, pooled shortcuts.

    Source: Gao et al., "Res2Net: A New Multi-scale Backbone Architecture", 2019, https://arxiv.org/abs/1904.01169;
    the stem and the shortcuts ("v1b") are those of He et al., "Bag of Tricks for Image Classification with
    Convolutional Neural Networks", 2018, https://arxiv.org/abs/1812.01187, section 4 (ResNet-C and -D). The names of
    the parameters are those of the published ImageNet weights (``res2net50_v1b_26w_4s-3cf99910.pth``), so these fit;
    nothing is ever downloaded.

    Shapes of the feature maps for frames of 256 x 448: 256 x 64 x 112, 512 x 32 x 56, 1024 x 16 x 28 and, with four
    stages, 2048 x 8 x 14. A size that is no multiple of the stride is rounded up.

    Args:
        stages: how many of the four stages are built, 3 or 4. Defaults to 3.
        num_classes: classes of the linear layer of :meth:`classify`, ``None`` for none; needs all four stages.

    Raises:
        ValueError: ``stages`` is neither 3 nor 4, or ``num_classes`` is given with 3.
    """

    def __init__(self, stages: int = 3, num_classes: int | None = None) -> None:
        super().__init__()
        if stages not in (3, 4) or (num_classes is not None and stages != 4):
            raise ValueError(
                f"Res2Net50 expects `stages` to be 3 or 4, and 4 where `num_classes` is given, got "
                f"{stages} and {num_classes}"
            )
        self.stages = stages
        self.conv1 = nn.Sequential(
            _conv3(3, 32, stride=2),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
            _conv3(32, 32),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
            _conv3(32, 64),
        )
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = self._stage(0)
        self.layer2 = self._stage(1)
        self.layer3 = self._stage(2)
        self.layer4 = self._stage(3) if stages == 4 else nn.Identity()
        self.fc = nn.Identity() if num_classes is None else nn.Linear(_PLANES[-1] * _EXPANSION, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @staticmethod
    def _stage(index: int) -> nn.Sequential:
        planes, in_channels = _PLANES[index], 64 if index == 0 else _PLANES[index - 1] * _EXPANSION
        blocks = [Res2NetBlock(in_channels, planes, stride=1 if index == 0 else 2, first=True)]
        blocks += [Res2NetBlock(planes * _EXPANSION, planes) for _ in range(_BLOCKS[index] - 1)]
        return nn.Sequential(*blocks)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Compute the feature maps.

        Args:
            x: images ``(N, 3, H, W)``, normalized with ImageNet's mean and standard deviation.

        Returns:
            One map per stage, at 1/4, 1/8, 1/16 (and 1/32) of the size, with 256, 512, 1024 (and 2048) channels.
        """
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        maps = [self.layer1(x)]
        maps.append(self.layer2(maps[-1]))
        maps.append(self.layer3(maps[-1]))
        if self.stages == 4:
            maps.append(self.layer4(maps[-1]))
        return maps

    def classify(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores ``(N, num_classes)`` of images ``(N, 3, H, W)``, where ``num_classes`` was given."""
        return self.fc(self.forward(x)[-1].mean(dim=[2, 3]))

    def load_imagenet(self, path: str | PathLike[str]) -> None:
        """Load the published ImageNet weights from a file; stages and classes that are not built are passed over.

        Args:
            path: a state dict as ``torch.save`` wrote it. It is read without running code that it may contain.

        Raises:
            ValueError: the file is not there, cannot be read, or holds other weights. Nothing is loaded then.
        """
        own = self.state_dict()
        absent = tuple(part for part in ("layer4.", "fc.") if not any(name.startswith(part) for name in own))
        load_pretrained(
            self,
            path,
            "the state dict of Res2Net-50 v1b 26w-4s (res2net50_v1b_26w_4s-3cf99910.pth)",
            lambda weights: {name: value for name, value in weights.items() if not name.startswith(absent)},
        )

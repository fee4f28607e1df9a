"""SE-ResNeXt-50 (32x4d) as SSHSNet's encoders: in 2D at output stride 16, and in 3D with anisotropic kernels."""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Sequence
from os import PathLike

import torch
from monai.networks.blocks import Convolution, SEBlock
from monai.networks.layers.factories import Conv, Norm
from torch import nn

from common.networks.pretrained import load_pretrained

__all__ = ["SEResNeXt2D", "SEResNeXt3D", "scale_channels"]

_STEM_CHANNELS = 64
_PLANES = (64, 128, 256, 512)
_BLOCKS = (3, 4, 6, 3)
_EXPANSION = 4
_GROUPS = 32
_GROUP_CHANNELS = 4
_REDUCTION = 16
_RELU = ("relu", {"inplace": True})

# The names of the published file, and MONAI's for the same modules.
_NAMES = (
    (r"^(layer\d\.\d+\.conv\d)\.weight$", r"\1.conv.weight"),
    (r"^(layer\d\.\d+)\.bn(\d)\.", r"\1.conv\2.adn.N."),
    (r"^(layer\d\.\d+)\.se_module\.fc1\.", r"\1.se_layer.fc.0."),
    (r"^(layer\d\.\d+)\.se_module\.fc2\.", r"\1.se_layer.fc.2."),
    (r"^(layer\d\.\d+)\.downsample\.0\.", r"\1.project.conv."),
    (r"^(layer\d\.\d+)\.downsample\.1\.", r"\1.project.adn.N."),
)


def scale_channels(channels: int, width: float) -> int:
    """Number of channels of a network ``width`` times as wide as the paper's.

    Args:
        channels: of the paper's network, a multiple of 16.
        width: a positive multiple of 1/16: less would leave squeeze-and-excitation no hidden channel.

    Raises:
        ValueError: ``width`` is no such number.
    """
    if not (width > 0 and float(width * 16).is_integer()):
        raise ValueError(f"SE-ResNeXt expects `width` to be a positive multiple of 1/16, got {width}")
    return int(channels * width)


class _Bottleneck(SEBlock):
    """1x1, grouped and 1x1 convolution, squeeze-and-excitation, and the input beside them ("type C").

    MONAI's ``SEResNeXtBottleneck`` has one stride for all axes, cubic kernels and no dilation.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        planes: int,
        kernel_size: Sequence[int] | int,
        strides: Sequence[int] | int,
        dilation: int,
    ) -> None:
        inner, out_channels = 2 * planes, _EXPANSION * planes
        conv = {"norm": Norm.BATCH, "act": _RELU, "bias": False}
        project = None
        if in_channels != out_channels or strides != 1:
            project = Convolution(
                spatial_dims, in_channels, out_channels, strides, 1, norm=Norm.BATCH, act=None, bias=False
            )
        super().__init__(
            spatial_dims,
            in_channels,
            inner,
            inner,
            out_channels,
            conv_param_1={**conv, "kernel_size": 1},
            conv_param_2={
                **conv,
                "kernel_size": kernel_size,
                "strides": strides,
                "dilation": dilation,
                "groups": math.gcd(_GROUPS, inner // _GROUP_CHANNELS),
            },
            conv_param_3={**conv, "kernel_size": 1, "act": None},
            project=project,
            r=_REDUCTION,
        )


class _SEResNeXt(nn.Module):
    """What both encoders are: stem, pooling, four stages.

    Args:
        spatial_dims: number of spatial axes.
        in_channels: channels of the input.
        blocks: number of blocks of each stage.
        width: factor of all numbers of channels.
        stem: kernel size of the first convolution.
        halve: stride that halves the size.
        pool: between stem and stages.
        kernel_sizes: of each stage's grouped convolutions.
        dilation: of the last stage's grouped convolutions.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        blocks: Sequence[int],
        width: float,
        stem: Sequence[int],
        halve: Sequence[int] | int,
        pool: nn.Module,
        kernel_sizes: Sequence[Sequence[int] | int],
        dilation: int,
    ) -> None:
        super().__init__()
        if len(blocks) != len(_PLANES) or min(blocks) < 1:
            raise ValueError(f"SE-ResNeXt expects `layers` to be four positive numbers of blocks, got {list(blocks)}")
        channels = scale_channels(_STEM_CHANNELS, width)
        self.channels = [channels, *(_EXPANSION * scale_channels(planes, width) for planes in _PLANES)]
        padding = tuple(size // 2 for size in stem)
        # The names, here and below, are those of MONAI's SENet.
        self.layer0 = nn.Sequential(
            OrderedDict(
                conv1=Conv[Conv.CONV, spatial_dims](in_channels, channels, tuple(stem), halve, padding, bias=False),
                bn1=Norm[Norm.BATCH, spatial_dims](channels),
                relu1=nn.ReLU(inplace=True),
            )
        )
        self.pool = pool
        stages = []
        for i, planes in enumerate(_PLANES):
            planes = scale_channels(planes, width)
            strides = halve if i in (1, 2) else 1
            stage = []
            for j in range(blocks[i]):
                stage.append(
                    _Bottleneck(
                        spatial_dims,
                        channels,
                        planes,
                        kernel_sizes[i],
                        strides if j == 0 else 1,
                        dilation if i == len(_PLANES) - 1 else 1,
                    )
                )
                channels = _EXPANSION * planes
            stages.append(nn.Sequential(*stage))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Compute the feature maps.

        Args:
            x: images ``(N, in_channels, ...)``.

        Returns:
            Maps at 1/2, 1/4, 1/8, 1/16 and 1/16 of the size; ``channels`` has their numbers of channels.
        """
        maps = [self.layer0(x)]
        maps.append(self.layer1(self.pool(maps[0])))
        maps.append(self.layer2(maps[1]))
        maps.append(self.layer3(maps[2]))
        maps.append(self.layer4(maps[3]))
        return maps


class SEResNeXt2D(_SEResNeXt):
    """SE-ResNeXt-50 (32x4d) for images, at output stride 16: the encoder of SSHSNet's first stage.

    MONAI's ``SEResNext50`` with the last stage dilated by 2 instead of strided, in all its blocks, and without the
    classifier; with the same weights its features are the same. The max pooling rounds sizes up and does not pad.

    Source: Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", 2016,
    https://arxiv.org/abs/1611.05431, section 4; Hu et al., "Squeeze-and-Excitation Networks", 2017,
    https://arxiv.org/abs/1709.01507, section 4; used by "Semi-supervised hybrid spine network for segmentation of spine
    MR images" (SSHSNet), 2022, https://arxiv.org/abs/2203.12151.

    Weights are Kaiming-normal until :meth:`load_imagenet` is called. 25,510,896 parameters with the
    default arguments.

    Args:
        in_channels: channels of the input.
        layers: number of blocks of each of the four stages; the default is the paper's.
        width: factor of all numbers of channels, a positive multiple of 1/16; the default is the paper's. The grouped
            convolutions keep their 32 groups as long as each has 4 channels, the fewest it has in the paper; a narrower
            network has fewer groups.

    Raises:
        ValueError: ``layers`` or ``width`` is not as said.

    Shapes:
        input ``(N, in_channels, H, W)``; output a list of 5 maps with 64, 256, 512, 1024 and 2048 channels (times
        ``width``; attribute ``channels``) at 1/2, 1/4, 1/8, 1/16 and 1/16 of the size: for 256 x 512 that is 128 x 256,
        64 x 128, 32 x 64, 16 x 32 and 16 x 32.
    """

    def __init__(self, in_channels: int = 3, layers: Sequence[int] = _BLOCKS, width: float = 1.0) -> None:
        pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        super().__init__(2, in_channels, layers, width, (7, 7), 2, pool, (3, 3, 3, 3), dilation=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def load_imagenet(self, path: str | PathLike[str]) -> None:
        """Load the published ImageNet weights from a file; the classifier in it is passed over.

        Args:
            path: a state dict as ``torch.save`` wrote it, with the names of ``se_resnext50_32x4d-a260b3a4.pth`` or
                MONAI's. It is read without running code that it may contain; nothing is downloaded.

        Raises:
            ValueError: the file is not there, cannot be read, or holds other weights. Nothing is loaded then.
        """
        expected = "the state dict of SE-ResNeXt-50 32x4d (se_resnext50_32x4d-a260b3a4.pth)"
        load_pretrained(self, path, expected, _monai_weights)


def _monai_weights(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    renamed = {}
    for name, value in weights.items():
        if name.startswith("last_linear."):
            continue
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        # Squeeze-and-excitation is made of 1x1 convolutions there, of linear layers in MONAI.
        renamed[name] = value.flatten(1) if ".se_layer." in name and value.dim() == 4 else value
    return renamed


class SEResNeXt3D(_SEResNeXt):
    """SE-ResNeXt-50 (32x4d) for volumes of thick slices: the encoder of SSHSNet's second stage.

    The slice axis is the last one; it is never strided. The first convolution is 7 x 7 x 1, the grouped convolutions
    are 3 x 3 x 1 in the first three stages and 3 x 3 x 3 in the last, which is neither strided nor dilated. So slices
    meet in the last stage only, but for the means of squeeze-and-excitation.

    Source: "Semi-supervised hybrid spine network for segmentation of spine MR images" (SSHSNet), 2022,
    https://arxiv.org/abs/2203.12151. As in the authors' program it is trained from scratch, from weights with a
    standard deviation of sqrt(2 / (kernel volume x output channels)), whatever the number of groups, and biases of
    zero.

    27,336,816 parameters with the default arguments.

    Args:
        in_channels: channels of the input; the default is SSHSNet's, an image and the probabilities of 20 classes.
        layers: see :class:`SEResNeXt2D`.
        width: see :class:`SEResNeXt2D`.

    Raises:
        ValueError: ``layers`` or ``width`` is not as said.

    Shapes:
        input ``(N, in_channels, H, W, D)``; output a list of 5 maps with 64, 256, 512, 1024 and 2048 channels (times
        ``width``; attribute ``channels``) at 1/2, 1/4, 1/8, 1/16 and 1/16 of the in-plane size, all with D slices: for
        192 x 192 x 12 that is 96 x 96 x 12, 48 x 48 x 12, 24 x 24 x 12, 12 x 12 x 12 and 12 x 12 x 12.
    """

    def __init__(self, in_channels: int = 21, layers: Sequence[int] = _BLOCKS, width: float = 1.0) -> None:
        plane, halve = (3, 3, 1), (2, 2, 1)
        pool = nn.MaxPool3d(plane, halve, padding=(1, 1, 0))
        kernel_sizes = (plane, plane, plane, (3, 3, 3))
        super().__init__(3, in_channels, layers, width, (7, 7, 1), halve, pool, kernel_sizes, dilation=1)
        for module in self.modules():
            # The linear layers of squeeze-and-excitation are 1x1x1 convolutions in all but name.
            if isinstance(module, nn.Conv3d | nn.Linear):
                kernel_volume = math.prod(module.weight.shape[2:])
                nn.init.normal_(module.weight, std=math.sqrt(2 / (kernel_volume * module.weight.shape[0])))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

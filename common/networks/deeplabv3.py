"""DeepLabv3 for anisotropic volumes, a network that SAFNet is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks import ResidualUnit
from monai.networks.layers.factories import Conv
from torch import nn

from common.networks.aspp import ASPP
from common.networks.blocks import check_input, conv_norm_act

__all__ = ["DeepLabV3"]

_UNITS = 2  # residual units a stage, as in ResNet-18


class DeepLabV3(nn.Module):
    """Residual encoder with atrous convolutions, pyramid pooling, and a classifier on its map: DeepLabv3 in 3D.

    Source: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017,
    https://arxiv.org/abs/1706.05587. The SAFNet paper compares itself with a "3D DeepLabv3" and says nothing of its
    layout; this reading is as wide and as anisotropic as SAFNet itself: strides, dilations and rates act in-plane (H,
    W), as sagittal slices are some 4 mm thick.

    For a volume of 18 x 256 x 128, channels first: ``stem`` 3 x 7 x 7 with stride 2, 32 x 18 x 128 x 64; four stages of
    two residual units (MONAI's) of 32, 64, 128 and 256 channels, of which the first three halve H and W (output stride
    16) and the last one has dilations 2 and 4 instead (multi-grid); ``aspp``, 128 x 18 x 16 x 8; ``classifier`` of size
    1, and trilinear upsampling to the input's size.

    Args:
        in_channels: channels of the input.
        out_channels: classes, the background included.
        features: channels of the stages; the stem has as many as the first.
        aspp_features: channels of the pyramid's branches and of its output.
        aspp_rates: in-plane dilations of the pyramid's 3x3x3 convolutions.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 18,
        features: Sequence[int] = (32, 64, 128, 256),
        aspp_features: int = 128,
        aspp_rates: Sequence[int] = (6, 12, 18),
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.stem = conv_norm_act(3, in_channels, features[0], (3, 7, 7), strides=(1, 2, 2))
        units, channels = [], features[0]
        for stage, width in enumerate(features):
            last = stage == len(features) - 1
            for unit in range(_UNITS):
                units.append(
                    ResidualUnit(
                        spatial_dims=3,
                        in_channels=channels,
                        out_channels=width,
                        strides=1 if last or unit else (1, 2, 2),
                        dilation=(1, 2 * 2**unit, 2 * 2**unit) if last else 1,
                        act="relu",
                        norm="batch",
                        bias=False,
                    )
                )
                channels = width
        self.encoder = nn.Sequential(*units)
        self.aspp = ASPP(3, channels, aspp_features, [(1, rate, rate) for rate in aspp_rates])
        self.classifier = Conv[Conv.CONV, 3](aspp_features, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Segment a batch of volumes.

        Args:
            x: normalized intensities ``(B, in_channels, D, H, W)``; H and W multiples of 16, any D.

        Returns:
            Logits ``(B, out_channels, D, H, W)``.

        Raises:
            ValueError: the input has another rank, number of channels, or an H or W that is no multiple of 16.
        """
        check_input(x, "DeepLabV3", self.in_channels, [1, 16, 16])
        logits = self.classifier(self.aspp(self.encoder(self.stem(x))))
        return F.interpolate(logits, size=x.shape[2:], mode="trilinear", align_corners=False)

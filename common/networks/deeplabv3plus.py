"""DeepLabv3+ with an SE-ResNeXt-50 encoder, and two of them side by side: SSHSNet's first stage."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

import torch
import torch.nn.functional as F
from torch import nn

from common.networks.blocks import check_input
from common.networks.deeplab_decoder import DeepLabDecoder
from common.networks.se_resnext import SEResNeXt2D, scale_channels

__all__ = ["DeepLabV3Plus2D", "DualDeepLab"]


class DeepLabV3Plus2D(nn.Module):
    """DeepLabv3+ with SE-ResNeXt-50 (32x4d) at output stride 16: one branch of SSHSNet's first stage.

    The paper's input are three neighbouring slices as channels, whose middle one is segmented, z-scored and without
    ImageNet's mean and standard deviation. 28,685,332 parameters: encoder 25,510,896, decoder 3,169,296, head 5,140.

    With the default rates 9, 3 and 1 of the 9 taps of the three atrous convolutions reach into a 16 x 32 map, see
    :class:`common.networks.deeplab_decoder.DeepLabDecoder`.

    Source: "Semi-supervised hybrid spine network for segmentation of spine MR images" (SSHSNet), 2022,
    https://arxiv.org/abs/2203.12151; Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image
    Segmentation" (DeepLabv3+), 2018, https://arxiv.org/abs/1802.02611. As in the authors' program, interpolation is
    bilinear with ``align_corners=True``, and decoder and head are Kaiming-normal (fan in).

    Args:
        in_channels: channels of the input, the number of slices.
        num_classes: channels of the output, background included.
        aspp_rates: dilation of each atrous branch, one number or one an axis.
        dropout: probability after the pyramid.
        layers: number of blocks of the encoder's four stages; the default is the paper's.
        width: factor of all numbers of channels but those of input and output, a positive multiple of 1/16; the default
            is the paper's. See :class:`common.networks.se_resnext.SEResNeXt2D`.
        pretrained_path: file with the encoder's ImageNet weights, see
            :meth:`common.networks.se_resnext.SEResNeXt2D.load_imagenet`; ``None`` for random ones (Kaiming-normal).

    Raises:
        ValueError: an argument is not as said, or the file of weights does not fit.

    Shapes:
        input ``(N, in_channels, H, W)``, H and W multiples of 16; output logits ``(N, num_classes, H, W)``.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 20,
        aspp_rates: Sequence[Sequence[int] | int] = (12, 24, 36),
        dropout: float = 0.5,
        layers: Sequence[int] = (3, 4, 6, 3),
        width: float = 1.0,
        pretrained_path: str | PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.feature_channels = scale_channels(256, width)
        self.encoder = SEResNeXt2D(in_channels, layers, width)
        self.decoder = DeepLabDecoder(
            spatial_dims=2,
            in_channels=self.encoder.channels[4],
            low_level_channels=self.encoder.channels[1],
            channels=self.feature_channels,
            low_level_reduced=scale_channels(48, width),
            aspp_rates=aspp_rates,
            dropout=dropout,
        )
        self.head = nn.Conv2d(self.feature_channels, num_classes, 1)
        for module in [*self.decoder.modules(), self.head]:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if pretrained_path is not None:
            self.encoder.load_imagenet(pretrained_path)

    @torch.jit.export
    def features(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the logits and the decoder's map before the head.

        Args:
            x: images ``(N, in_channels, H, W)``.

        Returns:
            Logits ``(N, num_classes, H, W)`` and feature map ``(N, feature_channels, H / 4, W / 4)``;
            ``feature_channels`` is 256 times the width.

        Raises:
            ValueError: see :meth:`forward`.
        """
        check_input(x, "DeepLabV3Plus2D", self.in_channels, [16, 16])
        maps = self.encoder(x)
        decoded = self.decoder(maps[1], maps[4])
        return F.interpolate(self.head(decoded), size=x.shape[2:], mode="bilinear", align_corners=True), decoded

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the logits.

        Args:
            x: images ``(N, in_channels, H, W)``.

        Returns:
            Logits ``(N, num_classes, H, W)``.

        Raises:
            ValueError: the input's shape is another one, or in training mode the batch has one image only.
        """
        return self.features(x)[0]


class DualDeepLab(nn.Module):
    """Two networks of the same structure: SSHSNet's first stage, to be trained by cross pseudo supervision.

    ``branch1`` and ``branch2`` share nothing. They start from different random numbers, but for the encoders where
    ``pretrained_path`` is given: then decoder and head are all that they differ in, as in the authors' program.
    57,370,664 parameters.

    Source: "Semi-supervised hybrid spine network for segmentation of spine MR images" (SSHSNet), 2022,
    https://arxiv.org/abs/2203.12151; Chen et al., "Semi-Supervised Semantic Segmentation with Cross Pseudo
    Supervision", 2021, https://arxiv.org/abs/2106.01226.

    Args:
        in_channels: see :class:`DeepLabV3Plus2D`, as for all that follow.
        num_classes: channels of the output, background included.
        aspp_rates: dilation of each atrous branch.
        dropout: probability after the pyramid.
        layers: number of blocks of the encoders' four stages.
        width: factor of all numbers of channels but those of input and output.
        pretrained_path: file with the encoders' ImageNet weights, the same for both.

    Raises:
        ValueError: an argument is not as said, or the file of weights does not fit.

    Shapes:
        input ``(N, in_channels, H, W)``, H and W multiples of 16; output probabilities ``(N, num_classes, H, W)``.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 20,
        aspp_rates: Sequence[Sequence[int] | int] = (12, 24, 36),
        dropout: float = 0.5,
        layers: Sequence[int] = (3, 4, 6, 3),
        width: float = 1.0,
        pretrained_path: str | PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        self.branch1, self.branch2 = (
            DeepLabV3Plus2D(in_channels, num_classes, aspp_rates, dropout, layers, width, pretrained_path)
            for _ in range(2)
        )
        self.feature_channels = self.branch1.feature_channels + self.branch2.feature_channels

    @torch.jit.export
    def context(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute what SSHSNet's second stage takes of the first.

        Args:
            x: images ``(N, in_channels, H, W)``.

        Returns:
            Mean of the branches' probabilities ``(N, num_classes, H, W)``, and both decoders' maps, the first branch's
            first, ``(N, feature_channels, H / 4, W / 4)``; ``feature_channels`` is 512 times the width.

        Raises:
            ValueError: see :meth:`DeepLabV3Plus2D.forward`.
        """
        logits1, map1 = self.branch1.features(x)
        logits2, map2 = self.branch2.features(x)
        return (logits1.softmax(dim=1) + logits2.softmax(dim=1)) / 2, torch.cat([map1, map2], dim=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the mean of the branches' probabilities.

        Args:
            x: images ``(N, in_channels, H, W)``.

        Returns:
            Probabilities ``(N, num_classes, H, W)``; they sum to 1 over the classes.

        Raises:
            ValueError: see :meth:`DeepLabV3Plus2D.forward`.
        """
        return self.context(x)[0]

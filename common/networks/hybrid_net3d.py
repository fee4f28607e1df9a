"""SSHSNet's second stage: a 3D DeepLabv3+ that takes in what a 2D network says of the same place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from common.networks.blocks import check_input, conv_norm_act
from common.networks.cross_tri_attention import CrossTriAttention
from common.networks.deeplab_decoder import DeepLabDecoder
from common.networks.se_resnext import SEResNeXt3D, scale_channels

__all__ = ["FUSIONS", "HybridNet3D"]

FUSIONS = ("tri_attention", "dual_attention", "concatenation")

_IN_PLANE = (3, 3, 1)


class HybridNet3D(nn.Module):
    """3D DeepLabv3+ for patches of thick slices, with the results of a 2D network as further input.

    Shapes for one patch of 192 x 192 x 12 (front to back, head to foot, slices), channels first; the names are those of
    the sub-modules:

    - ``encoder`` on the patch and the 2D network's 20 probabilities, 21 channels;
      :class:`common.networks.se_resnext.SEResNeXt3D`, up to 2048 x 12 x 12 x 12.
    - ``decoder``: :class:`common.networks.deeplab_decoder.DeepLabDecoder`, F3, 256 x 48 x 48 x 12.
    - ``adapter`` on the 2D network's feature maps, 512 x 48 x 48 x 12: convolution 3 x 3 x 1, normalization, ReLU, F2,
      256 x 48 x 48 x 12.
    - ``attention`` on F2 and F3: :class:`common.networks.cross_tri_attention.CrossTriAttention`, 512 x 48 x 48 x 12.
    - ``fuse``: convolution 3 x 3 x 1, normalization, ReLU, 256 x 48 x 48 x 12.
    - ``head``: 1 x 1 x 1 to the classes, then trilinear interpolation to the patch's size (``align_corners=True``).

    ``fusion`` chooses a step of the authors' ladder of ablations:

    - ``tri_attention``: as above.
    - ``dual_attention``: without attention between channels; F2 and F3 are added, and ``head`` follows at once.
    - ``concatenation``: no ``adapter`` and no ``attention``; ``fuse`` takes the 2D feature maps as they are, and F3:
      768 channels.

    The probabilities are taken as such; the "coarse segmentation" of the paper's text is that in the authors' program,
    too. With the default rates 1 of 27 taps of each atrous convolution reaches another place in the 12 x 12 x 12 map;
    ``aspp_rates`` of ``((2, 2, 1), (4, 4, 2), (6, 6, 3))`` are a variant of ours that keeps all alive, see the decoder.

    Source: "Semi-supervised hybrid spine network for segmentation of spine MR images", Computerized Medical Imaging and
    Graphics 107 (2023) 102245, https://arxiv.org/abs/2203.12151, and the authors' program where the text leaves a
    choice. 33,069,015 parameters with the default arguments; 31,888,854 with ``dual_attention`` and 32,396,436 with
    ``concatenation``.

    Args:
        num_classes: channels of the probabilities and of the output, background included.
        map_channels: channels of the 2D network's feature maps; 256 for each of two networks of the paper's width.
        aspp_rates: dilation of each atrous branch, one number or one an axis.
        fusion: one of ``FUSIONS``.
        value_from: see :class:`common.networks.cross_tri_attention.CrossTriAttention`.
        block: see :class:`common.networks.cross_tri_attention.SpatialCrossAttention`.
        dropout: probability after the decoder's pyramid.
        layers: number of blocks of the encoder's four stages; the default is the paper's.
        width: factor of all numbers of channels but those of inputs and output, a positive multiple of 1/16; the
            default is the paper's.

    Raises:
        ValueError: an argument is not as said.

    Shapes:
        patches ``(B, 1, h, w, D)``, h and w multiples of 16, probabilities ``(B, num_classes, h, w, D)``, maps
        ``(B, map_channels, h / 4, w / 4, D)``; output logits ``(B, num_classes, h, w, D)``. In training B is at least
        2: the decoder normalizes one mean a patch.
    """

    def __init__(
        self,
        num_classes: int = 20,
        map_channels: int = 512,
        aspp_rates: Sequence[Sequence[int] | int] = (12, 24, 36),
        fusion: str = "tri_attention",
        value_from: str = "3d",
        block: int | None = None,
        dropout: float = 0.5,
        layers: Sequence[int] = (3, 4, 6, 3),
        width: float = 1.0,
    ) -> None:
        super().__init__()
        if fusion not in FUSIONS:
            raise ValueError(f"HybridNet3D expects `fusion` to be one of {list(FUSIONS)}, got {fusion!r}")
        channels = scale_channels(256, width)
        self.num_classes = num_classes
        self.map_channels = map_channels
        self.encoder = SEResNeXt3D(1 + num_classes, layers, width)
        self.decoder = DeepLabDecoder(
            spatial_dims=3,
            in_channels=self.encoder.channels[4],
            low_level_channels=self.encoder.channels[1],
            channels=channels,
            low_level_reduced=scale_channels(48, width),
            aspp_rates=aspp_rates,
            dropout=dropout,
        )
        self.adapter: nn.Module = nn.Identity()
        self.attention: nn.Module | None = None
        self.fuse: nn.Module = nn.Identity()
        if fusion == "concatenation":
            self.fuse = conv_norm_act(3, map_channels + channels, channels, _IN_PLANE)
        else:
            dual = fusion == "dual_attention"
            self.adapter = conv_norm_act(3, map_channels, channels, _IN_PLANE)
            self.attention = CrossTriAttention(
                channels, channel=not dual, merge="sum" if dual else "concat", value_from=value_from, block=block
            )
            if not dual:
                self.fuse = conv_norm_act(3, 2 * channels, channels, _IN_PLANE)
        self.head = nn.Conv3d(channels, num_classes, 1)

    def forward(self, patch: torch.Tensor, probabilities: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        """Segment patches.

        Args:
            patch: normalized intensities ``(B, 1, h, w, D)``, slices last; h and w multiples of 16, any D.
            probabilities: of the 2D network at the same place, ``(B, num_classes, h, w, D)``.
            maps: features of the 2D network at the same place, ``(B, map_channels, h / 4, w / 4, D)``.

        Returns:
            Logits ``(B, num_classes, h, w, D)``; softmax over the channels makes them probabilities.

        Raises:
            ValueError: a shape is another one, or in training mode the batch has one patch only.
        """
        check_input(patch, "HybridNet3D", 1, [16, 16, 1])
        batch, height, width, slices = patch.shape[0], patch.shape[2], patch.shape[3], patch.shape[4]
        _check_shape(probabilities, "probabilities", [batch, self.num_classes, height, width, slices])
        _check_shape(maps, "feature maps", [batch, self.map_channels, height // 4, width // 4, slices])
        low_level, deep = self._encode(torch.cat([patch, probabilities.to(patch.dtype)], dim=1))
        f2, f3 = self.adapter(maps.to(patch.dtype)), self.decoder(low_level, deep)
        merged = torch.cat([f2, f3], dim=1) if self.attention is None else self.attention(f2, f3)
        logits = self.head(self.fuse(merged))
        return F.interpolate(logits, size=[height, width, slices], mode="trilinear", align_corners=True)

    def _encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the encoder's second and last map; the others are let go."""
        maps = self.encoder(x)
        return maps[1], maps[4]


def _check_shape(x: torch.Tensor, name: str, shape: list[int]) -> None:
    if list(x.shape) != shape:
        raise ValueError(f"HybridNet3D expects {name} of shape {shape} beside its patch, got {list(x.shape)}")

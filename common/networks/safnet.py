"""SAFNet: scene-aware fusion network for whole spines in MR volumes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from torch import nn

from common.networks.aspp import ASPP
from common.networks.blocks import check_input, conv_norm_act

__all__ = ["SAFNet"]

_IN_PLANE = (1, 2, 2)
_TRUNK_DILATIONS = (2, 4, 8)
_FUSION_DILATIONS = (2, 4, 8, 16)
_QUERY_REDUCTION = 8


def _in_plane(rate: int) -> tuple[int, int, int]:
    return (1, rate, rate)


def _resize_in_plane(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Trilinear interpolation (``align_corners=False``) to another height and width, the depth kept.

    With the depth kept, trilinear interpolation is bilinear interpolation of every slice: the same numbers, on a CPU
    in half the time.
    """
    b, c, d = x.shape[0], x.shape[1], x.shape[2]
    x = F.interpolate(x.flatten(1, 2), size=[height, width], mode="bilinear", align_corners=False)
    return x.reshape(b, c, d, height, width)


def _without_autocast(device_type: str) -> AbstractContextManager:
    # Only where there is something to switch off: `torch.export` would write the context into every graph.
    if torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


def _at_least_float32(x: torch.Tensor) -> torch.Tensor:
    return x if x.dtype == torch.float64 else x.float()


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions beside one 1x1x1 convolution, added (SAFNet paper, figure 3).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        strides: stride (D, H, W) of the second 3x3x3 convolution and of the 1x1x1 convolution.
        norm: normalization type and arguments.
    """

    def __init__(
        self, in_channels: int, out_channels: int, strides: Sequence[int] | int = 1, norm: tuple | str = "batch"
    ) -> None:
        super().__init__()
        self.conv1 = conv_norm_act(3, in_channels, out_channels, norm=norm)
        self.conv2 = conv_norm_act(3, out_channels, out_channels, strides=strides, norm=norm, act=None)
        self.shortcut = conv_norm_act(3, in_channels, out_channels, 1, strides=strides, norm=norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(B, in_channels, D, H, W)`` to ``(B, out_channels, D', H', W')``, sizes divided by the stride."""
        return F.relu(self.conv2(self.conv1(x)) + self.shortcut(x), inplace=True)


class PositionAttention(nn.Module):
    """Self-attention between all N = D*H*W positions of a map (SAFNet paper, "Self-attention mechanism", figure 5).

    ``softmax(Q K^T)`` over the keys, without the usual division by the root of the query's size, weighs the values;
    the result is added to the input with a learned ``scale`` that starts at 0. It is computed in float32 under
    autocast and in half-precision networks, since undivided products may be large; TorchScript cannot switch autocast
    off and leaves this to the attention kernels, which sum and normalize in float32.

    The key has no bias: it would add the same number to all logits of a query, which softmax takes away again.

    Args:
        channels: channels of the input and the output, a multiple of 8.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, 3]
        self.query = conv(channels, channels // _QUERY_REDUCTION, 1)
        self.key = conv(channels, channels // _QUERY_REDUCTION, 1, bias=False)
        self.value = conv(channels, channels, 1)
        self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(B, C, D, H, W)`` to the same shape."""
        q, k, v = self.query(x), self.key(x), self.value(x)
        if torch.jit.is_scripting():
            attended = self._attend(q, k, v)
        else:
            with _without_autocast(x.device.type):
                attended = self._attend(_at_least_float32(q), _at_least_float32(k), _at_least_float32(v))
        return x + self.scale * attended.to(x.dtype)

    def _attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        # (B, c, D, H, W) -> (B, 1 head, N, c), the layout that the fused kernels take
        attended = F.scaled_dot_product_attention(
            q.flatten(2).transpose(1, 2).unsqueeze(1),
            k.flatten(2).transpose(1, 2).unsqueeze(1),
            v.flatten(2).transpose(1, 2).unsqueeze(1),
            scale=1.0,
        )
        return attended.squeeze(1).transpose(1, 2).reshape(v.shape)


class ChannelAttention(nn.Module):
    """Self-attention between the C channels of a map (SAFNet paper, "Self-attention mechanism", figure 6).

    ``softmax(X X^T)`` of the flattened map X (C x N) weighs the channels; the result is added to the input with a
    learned ``scale`` that starts at 0. The affinity sums over all positions and soon leaves float16's range, so it is
    computed in float32 under autocast and in half-precision networks. TorchScript cannot switch autocast off, so there
    it is computed in float64, which autocast leaves alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(B, C, D, H, W)`` to the same shape."""
        if torch.jit.is_scripting():
            attended = self._attend(x.float() if x.device.type == "mps" else x.double())
        else:
            with _without_autocast(x.device.type):
                attended = self._attend(_at_least_float32(x))
        return x + self.scale * attended.to(x.dtype)

    def _attend(self, x: torch.Tensor) -> torch.Tensor:
        channels = x.flatten(2)
        affinity = torch.bmm(channels, channels.transpose(1, 2)).softmax(dim=-1)
        return torch.bmm(affinity, channels).reshape(x.shape)


class FusionBranch(nn.Module):
    """One of the four branches of :class:`MultiScaleFusion`.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        rate: in-plane dilation of the second 3x3x3 convolution.
        norm: normalization type and arguments.
    """

    def __init__(self, in_channels: int, out_channels: int, rate: int, norm: tuple | str = "batch") -> None:
        super().__init__()
        self.reduce = conv_norm_act(3, in_channels, out_channels, 1, norm=norm)
        self.near = conv_norm_act(3, out_channels, out_channels, norm=norm)
        self.far = conv_norm_act(3, out_channels, out_channels, dilation=_in_plane(rate), norm=norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(B, in_channels, D, H, W)`` to ``(B, out_channels, D, H, W)``."""
        x = self.reduce(x)
        return self.near(x) + self.far(x)


class MultiScaleFusion(nn.Module):
    """Four parallel branches with growing reach, concatenated (SAFNet paper, "Multiscale fusion").

    Args:
        channels: channels of the input and the output, a multiple of 4.
        norm: normalization type and arguments.
    """

    def __init__(self, channels: int, norm: tuple | str = "batch") -> None:
        super().__init__()
        width = channels // len(_FUSION_DILATIONS)
        self.branches = nn.ModuleList([FusionBranch(channels, width, rate, norm) for rate in _FUSION_DILATIONS])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(B, C, D, H, W)`` to the same shape."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class Gate(nn.Module):
    """Channel weights from the high map (SAFNet paper, "Dimension splicing").

    Global average pool and sigmoid give R_S; self-attention on its single position is a learned C -> C map with
    residual and gives R_SAM.

    Args:
        channels: channels of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.value = Conv[Conv.CONV, 3](channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(B, C, D, H, W)`` to ``(B, C, 1, 1, 1)``."""
        weights = x.mean(dim=[2, 3, 4], keepdim=True).sigmoid()
        return weights + self.value(weights)


class SAFNet(nn.Module):
    """Scene-aware fusion network: every vertebra and intervertebral disc of a 3D MR volume its own class.

    Source: "A spine segmentation method based on scene aware fusion network", BMC Neuroscience 24, 49 (2023). No code
    was published. A line marked (resolved) is this project's reading where the text is silent or contradicts itself.

    Shapes for one volume of 18 x 256 x 128 (D = sagittal slices, H = head to foot, W = front to back), channels
    first; CBR is convolution, normalization, ReLU; the names are those of the sub-modules:

    - ``stem``: CBR 3x3x3, 32 x 18 x 256 x 128; 32 channels (resolved).
    - ``down``: CBR 3x3x3, stride (1, 2, 2), 64 x 18 x 128 x 64; 64 channels (resolved).
    - ``low``, ``mid``: one residual block each, stride (1, 2, 2), 128 x 18 x 64 x 32 and 128 x 18 x 32 x 16.
    - ``high``: a residual block of stride (1, 2, 2), one of stride 1 and three CBR 3x3x3 with in-plane dilations
      2, 4, 8, the rates (resolved), 128 x 18 x 16 x 8.
    - ``aspp`` on the high map; the rates act in-plane, the depth rate is 1, as 18 slices are some 4 mm thick
      (resolved). Every branch has 128 channels; its image-level branch has no normalization (resolved), see
      :class:`common.networks.aspp.ASPP`.
    - ``position_attention``, ``channel_attention`` on the high map: same shape. No division before the softmax, a
      learned residual scale starting at 0; the key has no bias, which changes no output (resolved).
    - ``low_fusion``, ``mid_fusion``: four branches, each a CBR 1x1x1 to a quarter of the channels, then two CBR 3x3x3
      side by side on its result (resolved: side by side, and with ReLU before the sum), in-plane dilations 1 and
      2 / 4 / 8 / 16, added; concatenated. The trunk goes on from the maps before fusion.
    - ``gate``: global average pool and sigmoid of the high map, then a C -> C map with residual, 128 x 1 x 1 x 1;
      the paper's attention on a single position is this map (resolved).
    - new high map: gate * low * mid upsampled to low, 128 x 18 x 64 x 32.
    - ``head`` on the concatenation of the new high map, low and mid upsampled: CBR 3x3x3 384 -> 128 (resolved), then
      ``classifier``: 1x1x1 to the classes; trilinear upsampling to the input's size (resolved).

    Residual block: CBR 3x3x3 and a strided 3x3x3 convolution with normalization, beside a strided CBR 1x1x1; ReLU
    after their sum (resolved). A convolution that a normalization follows has no bias, which the normalization would
    take away (resolved: the paper's formula has one). All upsampling is trilinear with ``align_corners=False``
    (resolved).

    With ``aspp``, ``multiscale_fusion`` and ``self_attention`` off, what is left is the paper's Base, for its ablation
    table: the residual trunk with its three dilated CBR, the gate with its C -> C map, and the head (resolved).

    On a map of 16 x 8 the in-plane ASPP rates 18 and 12 reach 1 and 3 of their 9 taps inside the map, and on 32 x 16
    the fusion's rate 16 reaches 3: the others see padding only. ``aspp_rates`` allows others.

    Args:
        in_channels: channels of the input. Defaults to 1.
        out_channels: classes, the background included. Defaults to 18: background, 9 vertebrae and 8 discs
            (resolved: from the paper's figures).
        features: channels of the stem, of the down step and of all that follows; the last a multiple of 8. Defaults
            to ``(32, 64, 128)``.
        aspp: use the pyramid on the high map. Defaults to ``True``.
        multiscale_fusion: use multi-scale fusion on the low and the mid map. Defaults to ``True``.
        self_attention: use position and channel attention on the high map. Defaults to ``True``.
        high_skip: also concatenate the attended high map, upsampled to low, before the head: the gate forgets where
            the high features fired. Not in the paper. Defaults to ``False``.
        aspp_rates: in-plane dilations of the pyramid's 3x3x3 convolutions. Defaults to ``(6, 12, 18)``.
        norm: normalization type and arguments, as MONAI's ``Norm`` factory takes them. Defaults to ``"batch"``.

    Raises:
        ValueError: ``features`` are not three numbers, or the last is no multiple of 8.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 18,
        features: Sequence[int] = (32, 64, 128),
        aspp: bool = True,
        multiscale_fusion: bool = True,
        self_attention: bool = True,
        high_skip: bool = False,
        aspp_rates: Sequence[int] = (6, 12, 18),
        norm: tuple | str = "batch",
    ) -> None:
        super().__init__()
        if len(features) != 3 or features[-1] % _QUERY_REDUCTION != 0:
            raise ValueError(
                f"SAFNet expects `features` to be three numbers, the last a multiple of {_QUERY_REDUCTION}, "
                f"got {tuple(features)}"
            )
        stem, down, trunk = features
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.high_skip = high_skip

        self.stem = conv_norm_act(3, in_channels, stem, norm=norm)
        self.down = conv_norm_act(3, stem, down, strides=_IN_PLANE, norm=norm)
        self.low = ResidualBlock(down, trunk, _IN_PLANE, norm)
        self.mid = ResidualBlock(trunk, trunk, _IN_PLANE, norm)
        self.high = nn.Sequential(
            ResidualBlock(trunk, trunk, _IN_PLANE, norm),
            ResidualBlock(trunk, trunk, 1, norm),
            *[conv_norm_act(3, trunk, trunk, dilation=_in_plane(rate), norm=norm) for rate in _TRUNK_DILATIONS],
        )
        self.aspp = ASPP(3, trunk, trunk, [_in_plane(r) for r in aspp_rates], norm) if aspp else nn.Identity()
        self.position_attention = PositionAttention(trunk) if self_attention else nn.Identity()
        self.channel_attention = ChannelAttention() if self_attention else nn.Identity()
        self.low_fusion = MultiScaleFusion(trunk, norm) if multiscale_fusion else nn.Identity()
        self.mid_fusion = MultiScaleFusion(trunk, norm) if multiscale_fusion else nn.Identity()
        self.gate = Gate(trunk)
        self.head = conv_norm_act(3, trunk * (4 if high_skip else 3), trunk, norm=norm)
        self.classifier = Conv[Conv.CONV, 3](trunk, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Segment a batch of volumes.

        Args:
            x: normalized intensities ``(B, in_channels, D, H, W)``; H and W multiples of 16, any D.

        Returns:
            Logits ``(B, out_channels, D, H, W)``; softmax over the channels makes them probabilities.

        Raises:
            ValueError: the input has another rank, number of channels, or an H or W that is no multiple of 16.
        """
        check_input(x, "SAFNet", self.in_channels, [1, 16, 16])
        low = self.low(self.down(self.stem(x)))
        mid = self.mid(low)
        high = self.channel_attention(self.position_attention(self.aspp(self.high(mid))))

        height, width = low.shape[3], low.shape[4]
        low = self.low_fusion(low)
        mid = _resize_in_plane(self.mid_fusion(mid), height, width)
        maps = [self.gate(high) * low * mid, low, mid]
        if self.high_skip:
            maps.append(_resize_in_plane(high, height, width))
        logits = self.classifier(self.head(torch.cat(maps, dim=1)))
        return _resize_in_plane(logits, x.shape[3], x.shape[4])

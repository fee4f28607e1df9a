"""Six U-Nets out of three convolution blocks and two merge blocks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from common.networks.blocks import check_input
from common.networks.convolution_blocks import RecurrentResidualBlock, ResidualBlock, StandardBlock
from common.networks.merge_blocks import AttentionMerge, StandardMerge

__all__ = ["UNetFamily"]

# Convolution block and merge block.
_VARIANTS = {
    "unet": ("standard", "standard"),
    "resunet": ("residual", "standard"),
    "r2unet": ("recurrent", "standard"),
    "aunet": ("standard", "attention"),
    "aresunet": ("residual", "attention"),
    "ar2unet": ("recurrent", "attention"),
}
_PROFILES = ("table5", "prose")
_BOTTLENECKS = ("same", "plain")
# C_inter and C_attn are a quarter of C_out on every level.
_REDUCTION = 4


class _DecoderLevel(nn.Module):
    def __init__(self, merge: nn.Module, block: nn.Module) -> None:
        super().__init__()
        self.merge = merge
        self.block = block

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.block(self.merge(x, skip))


class UNetFamily(nn.Module):
    """One of the six U-Nets that segment neural tissue in the second stage.

    Source: Rhee et al., "Comparison of deep learning models for real-time neural tissue segmentation in spinal
    endoscopy", section "U-net variant architectures", figures 2 to 4, tables 2 and 5.

    ====================  ==================  ===========  ================
    ``name``              convolution blocks  merge blocks  default widths
    ====================  ==================  ===========  ================
    ``unet``              standard            standard     64 128 256 512
    ``resunet``           residual            standard     64 128 256 512
    ``r2unet``            recurrent residual  standard     32 64 128 256
    ``aunet``             standard            attention    64 128 256 512
    ``aresunet``          residual            attention    64 128 256 512
    ``ar2unet``           recurrent residual  attention    32 64 128 256
    ====================  ==================  ===========  ================

    Four levels: a convolution block on each with 2x2 max pooling between them, and merge and convolution block on the
    way up. The fourth is the bottom. Where the text leaves open what a block is made of, the choice is the one that
    gives the parameters and operations of table 5.

    The paper contradicts itself on the recurrent networks. Its prose shares the weights of a recurrent convolution
    and its table 2 has recurrent blocks on all levels; the counts of its table 5 come out only with weights of its own
    for each application and, in AR2U-Net, a standard block at the bottom. ``profile`` says which is built; which of
    them was trained is not known.

    ============  ====================  ====================
    million       ``profile="table5"``  ``profile="prose"``
    ============  ====================  ====================
    ``r2unet``    6.36 (paper: 6.4)     2.44
    ``ar2unet``   2.65 (paper: 2.7)     2.09
    ============  ====================  ====================

    Args:
        name: which of the six, see above.
        profile: ``"table5"`` or ``"prose"``; without effect on the networks without recurrence.
        share_recurrent: whether the applications of a recurrent convolution share their weights; ``None`` for what the
            profile says.
        bottleneck: the block of the deepest level, ``"same"`` as on the others or ``"plain"`` for a standard block;
            ``None`` for what the profile says.
        recurrent_steps: how often a recurrent convolution's output is fed back.
        features: widths of the levels ("C_out"), from the input's size down, multiples of 4; ``None`` for the paper's.
        dropout: probability with which elements of every level's output are set to zero in training.

    Raises:
        ValueError: an argument has none of the values above.

    Shapes:
        input ``(N, 3, H, W)``, output logits ``(N, 1, H, W)``; H and W multiples of ``2 ** (len(features) - 1)``, 8 by
        default. The paper's size is 256 x 256.
    """

    def __init__(
        self,
        name: str = "unet",
        profile: str = "table5",
        share_recurrent: bool | None = None,
        bottleneck: str | None = None,
        recurrent_steps: int = 2,
        features: Sequence[int] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        _check("name", name, tuple(_VARIANTS))
        _check("profile", profile, _PROFILES)
        _check("bottleneck", bottleneck, (None, *_BOTTLENECKS))
        if recurrent_steps < 1:
            raise ValueError(f"UNetFamily expects `recurrent_steps` of at least 1, got {recurrent_steps}")
        block, merge = _VARIANTS[name]
        if features is None:
            features = (32, 64, 128, 256) if block == "recurrent" else (64, 128, 256, 512)
        if len(features) < 2 or any(width < 1 or width % _REDUCTION for width in features):
            raise ValueError(
                f"UNetFamily expects two or more `features`, multiples of {_REDUCTION}, got {tuple(features)}"
            )
        if share_recurrent is None:
            share_recurrent = profile == "prose"
        if bottleneck is None:
            bottleneck = "plain" if profile == "table5" and name == "ar2unet" else "same"

        def convolutions(in_channels: int, out_channels: int, kind: str = block) -> nn.Module:
            if kind == "recurrent":
                return RecurrentResidualBlock(in_channels, out_channels, recurrent_steps, share_recurrent)
            plain = ResidualBlock if kind == "residual" else StandardBlock
            return plain(in_channels, out_channels // _REDUCTION, out_channels)

        widths = list(pairwise(features))
        self.encoder = nn.ModuleList([convolutions(3, features[0])])
        self.encoder.extend(convolutions(width, deep) for width, deep in widths[:-1])
        self.encoder.append(convolutions(*widths[-1], "standard" if bottleneck == "plain" else block))
        self.decoder = nn.ModuleList()
        for width, deep in reversed(widths):
            merged = (
                AttentionMerge(width, deep, width // _REDUCTION) if merge == "attention" else StandardMerge(width, deep)
            )
            self.decoder.append(_DecoderLevel(merged, convolutions(merged.out_channels, width)))
        self.head = nn.Conv2d(features[0], 1, 1)
        self.dropout = nn.Dropout(dropout)
        self.name = name
        self.divisor = 2 ** len(widths)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Segment frames.

        Args:
            x: frames ``(N, 3, H, W)``, intensities in [0, 1].

        Returns:
            Logits ``(N, 1, H, W)``; the sigmoid makes them probabilities.

        Raises:
            ValueError: the input has another rank or number of channels, or sizes that are no multiples of 8.
        """
        check_input(x, self.name, 3, [self.divisor, self.divisor])
        maps: list[torch.Tensor] = []
        for i, block in enumerate(self.encoder):
            if i > 0:
                x = F.max_pool2d(x, 2)
            x = self.dropout(block(x))
            maps.append(x)
        for i, level in enumerate(self.decoder):
            x = self.dropout(level(x, maps[len(maps) - 2 - i]))
        return self.head(x)


def _check(argument: str, value: str | None, known: tuple[str | None, ...]) -> None:
    if value not in known:
        raise ValueError(f"UNetFamily expects `{argument}` to be one of {', '.join(map(str, known))}, got {value!r}")

"""Channel self-attention (CSA) of FUnet, for any 2D network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["ChannelSelfAttention"]


class ChannelSelfAttention(nn.Module):
    """Weighs a map with a gate of its own size, which self-attention between its positions computes.

    Source: "Spinal nerve segmentation method and dataset construction in endoscopic surgical scenarios", MICCAI 2023,
    https://arxiv.org/abs/2307.10955, section 2.3 and equation 2. A line marked (resolved) is this project's reading
    where the text is silent.

    - Each position is a token whose embedding is its C channels; a learned position map is added to it.
    - Self-attention with ``heads`` heads; the scores are divided by the root of a head's width (resolved), and neither
      projection nor residual follow.
    - Layer normalization over the channels and sigmoid make the gate, which multiplies the input.
    - A grid above ``max_grid`` positions a side is first halved by 3x3 convolutions of stride 2, as often as needed;
      the normalized result is brought back bilinearly before the sigmoid. The paper speaks of "32 x 32 patches"; in
      FUnet, at 256 x 448, no grid exceeds that, and there is nothing to reduce (resolved).

    ``grid`` is that of the size trained for. At another one the position map is resized bilinearly, at its own it is
    used as it is.

    Args:
        channels: channels C of the input, a multiple of ``heads``.
        grid: height and width of the input.
        heads: attention heads. Defaults to 8 (resolved).
        max_grid: longest side on which attention is computed. Defaults to 32.
        pos_init_std: standard deviation of the normal distribution that the position map starts from. Defaults to 1.

    Raises:
        ValueError: ``channels`` is no multiple of ``heads``.

    Shapes:
        input and output ``(N, C, h, w)``.
    """

    def __init__(
        self, channels: int, grid: Sequence[int], heads: int = 8, max_grid: int = 32, pos_init_std: float = 1.0
    ) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"ChannelSelfAttention expects a multiple of {heads} channels (its heads), got {channels}")
        self.heads = heads
        height, width = grid
        self.reduce = nn.Sequential()
        while max(height, width) > max_grid:
            self.reduce.append(nn.Conv2d(channels, channels, 3, stride=2, padding=1))
            height, width = (height + 1) // 2, (width + 1) // 2
        self.position = nn.Parameter(pos_init_std * torch.randn(1, channels, height, width))
        self.query_key_value = nn.Linear(channels, 3 * channels, bias=False)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(N, C, h, w)`` to the same shape."""
        tokens = self.reduce(x)
        channels, height, width = tokens.shape[1], tokens.shape[2], tokens.shape[3]
        position = self.position
        if position.shape[2] != height or position.shape[3] != width:
            position = F.interpolate(position, size=[height, width], mode="bilinear", align_corners=False)
        # (N, C, h, w) -> (N, h * w, C) -> three of (N, heads, h * w, C / heads)
        tokens = (tokens + position).flatten(2).transpose(1, 2)
        parts = self.query_key_value(tokens).unflatten(2, [3, self.heads, channels // self.heads])
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(query, key, value)
        gate = self.norm(attended.transpose(1, 2).flatten(2))
        gate = gate.transpose(1, 2).unflatten(2, [height, width])
        if height != x.shape[2] or width != x.shape[3]:
            gate = F.interpolate(gate, size=[x.shape[2], x.shape[3]], mode="bilinear", align_corners=False)
        return x * gate.sigmoid().to(x.dtype)

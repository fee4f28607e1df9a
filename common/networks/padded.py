"""A network on a grid that its strides do not divide."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["Padded"]


class Padded(nn.Module):
    """Pad the input with zeros at its far ends to multiples, and cut the output to the input's size.

    Args:
        network: of the same size in and out.
        divisor: the multiples, for each spatial axis.
    """

    def __init__(self, network: nn.Module, divisor: Sequence[int]) -> None:
        super().__init__()
        self.network, self.divisor = network, tuple(divisor)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(B, in, D, H, W)`` to ``(B, out, D, H, W)``."""
        size = x.shape[2:]
        missing = [-n % d for n, d in zip(size, self.divisor, strict=True)]
        if any(missing):
            x = F.pad(x, [amount for axis in reversed(missing) for amount in (0, axis)])
        return self.network(x)[:, :, : size[0], : size[1], : size[2]]

"""Any 2D network as a network over clips."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["PerFrame"]


class PerFrame(nn.Module):
    """Runs a 2D network on the frames of clips one by one, for baselines that know nothing of time.

    Args:
        network: maps images ``(N, C, H, W)`` to a tensor ``(N, K, H, W)``, or to a list of these of which the last
            counts (as MONAI's ``BasicUNetPlusPlus`` does).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Segment clips.

        Args:
            x: clips ``(B, T, C, H, W)`` or frames ``(B, C, H, W)``.

        Returns:
            The network's output, ``(B, T, K, H, W)`` or ``(B, K, H, W)``.

        Raises:
            ValueError: the input has another rank.
        """
        if x.dim() != 4 and x.dim() != 5:
            raise ValueError(
                "PerFrame expects clips of shape (batch, frames, channels, H, W) or frames of shape "
                f"(batch, channels, H, W), got shape {list(x.shape)}"
            )
        output = self.network(x.flatten(0, 1) if x.dim() == 5 else x)
        logits = output if isinstance(output, torch.Tensor) else output[-1]
        return logits.unflatten(0, [x.shape[0], x.shape[1]]) if x.dim() == 5 else logits

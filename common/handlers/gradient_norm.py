"""A bound for a whole gradient."""

from __future__ import annotations

import torch

from common.handlers.gradient_clamp import GradientClamp

__all__ = ["GradientNorm"]


class GradientNorm(GradientClamp):
    """Scale the gradient down where its 2-norm is above a bound, as SSHSNet's authors' program does.

    Args and errors are those of :class:`common.handlers.GradientClamp`.
    """

    def limit(self) -> None:
        """Act on the gradients."""
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.value)

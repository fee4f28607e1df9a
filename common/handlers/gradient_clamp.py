"""Gradients kept within bounds."""

from __future__ import annotations

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents

__all__ = ["GradientClamp"]


class GradientClamp:
    """Clamp each element of each gradient before the optimiser's step (PNS-Net, whose training FUnet follows).

    Args:
        network: whose gradients.
        value: the bound, above 0; for fp16 it holds for the gradients proper, not for the scaled ones.

    Raises:
        ValueError: the bound is not above 0.
    """

    def __init__(self, network: torch.nn.Module, value: float) -> None:
        if not float(value) > 0:
            raise ValueError(f"the bound of a gradient must be above 0, got {value}")
        self.network, self.value = network, float(value)

    def attach(self, engine: Engine) -> None:
        """Follow a MONAI trainer."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        scaler = getattr(engine, "scaler", None)
        if scaler is not None:
            scaler.unscale_(engine.optimizer)
        self.limit()

    def limit(self) -> None:
        """Act on the gradients."""
        torch.nn.utils.clip_grad_value_(self.network.parameters(), self.value)

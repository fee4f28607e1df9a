"""Sums in float32 inside a network that otherwise computes in half precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

__all__ = ["at_least_float32", "full_precision", "scripted_full_precision"]


def full_precision(device_type: str) -> AbstractContextManager:
    """Switch autocast off; for what TorchScript does not compile.

    Args:
        device_type: the device's type, ``cuda`` say.
    """
    # Only where there is something to switch off: `torch.export` would write the context into every graph.
    if torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """Return ``x`` in float32, in float64 where it is so."""
    return x if x.dtype == torch.float64 else x.float()


def scripted_full_precision(x: torch.Tensor) -> torch.Tensor:
    """Return ``x`` in a type that autocast leaves alone, for TorchScript, which cannot switch autocast off.

    That is float64 under autocast, and as :func:`at_least_float32` without it.
    """
    # TorchScript cannot ask for every device whether autocast is on, but a product shows it.
    probe = torch.zeros([1, 1, 1], device=x.device)
    autocast = torch.bmm(probe, probe).dtype != probe.dtype
    return x.double() if autocast and x.device.type != "mps" else at_least_float32(x)

"""Times of several ways to do the same, taken in turn, so that all see the same load."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import nn

__all__ = ["percentiles", "settle", "take_turns", "wait"]


def wait(device: torch.device) -> None:
    """Let a GPU end its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def take_turns(
    ways: Sequence[Callable[[int], object]], count: int, warm_up: int, device: torch.device
) -> list[list[float]]:
    """Call every way with each number, one way after the other; who begins changes with the number.

    Args:
        ways: what is compared.
        count: they are called with 0, 1, ... count - 1.
        warm_up: how many calls at the beginning do not count.
        device: where they compute; CUDA is waited for.

    Returns:
        For each way the milliseconds of each call that counts.
    """
    times: list[list[float]] = [[] for _ in ways]
    for number in range(count):
        for turn in range(len(ways)):
            which = (number + turn) % len(ways)
            wait(device)
            begin = time.perf_counter()
            ways[which](number)
            wait(device)
            if number >= warm_up:
                times[which].append((time.perf_counter() - begin) * 1000)
    return times


def percentiles(milliseconds: Sequence[float], which: Sequence[int] = (50, 95)) -> dict[str, float]:
    """Return percentiles by the keys ``ms_p50``, ``ms_p95``, ..."""
    values = np.percentile(milliseconds, which)
    return {f"ms_p{percent}": float(value) for percent, value in zip(which, values, strict=True)}


@torch.no_grad()
def settle(network: nn.Module, batches: Iterable[torch.Tensor]) -> nn.Module:
    """Give a random network the statistics of its own maps, as training would; without, values grow beyond measure.

    Args:
        network: with batch normalization.
        batches: what the statistics are taken of.

    Returns:
        The network, in evaluation mode.
    """
    normalizations = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    momenta = [part.momentum for part in normalizations]
    for part in normalizations:
        part.momentum = None  # a plain mean over the batches
    for batch in batches:
        network.train()(batch)
    for part, momentum in zip(normalizations, momenta, strict=True):
        part.momentum = momentum
    return network.eval()

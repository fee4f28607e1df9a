"""One set of running statistics for all processes."""

from __future__ import annotations

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events

__all__ = ["SharedBuffers"]


class SharedBuffers:
    """Give every process the first one's buffers when a validation starts.

    Batch normalization without synchronization (on CPUs) leaves slightly different running statistics in each process;
    a case's prediction must not depend on who made it.

    Args:
        network: the plain network, not its distributed wrapper.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Share at the start of every run of ``engine``."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        for buffer in self.network.buffers():
            dist.broadcast(buffer, src=0)

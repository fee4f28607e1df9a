"""How long the steps of a stream take."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["StepTimes", "times_table"]

_KEPT = 100_000  # of each step: some 50 minutes at 30 frames a second


class StepTimes:
    """Collect the time of each step of each frame.

    Args:
        device: on CUDA a step is waited for, so that its time is its own.

    Memory does not grow without end: of each step, the last 100,000 times count.

    Attributes:
        latest: the last time of each step, in seconds; to be cleared by who wants those of one frame.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.latest: dict[str, float] = {}
        self._times: dict[str, list[float]] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what happens in the block."""
        begin = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.add(name, time.perf_counter() - begin)

    def add(self, name: str, seconds: float) -> None:
        """Add a time that was taken elsewhere."""
        self.latest[name] = seconds
        kept = self._times.setdefault(name, [])
        if len(kept) >= _KEPT:
            del kept[: _KEPT // 10]
        kept.append(seconds)

    def summary(self) -> dict[str, dict[str, float]]:
        """Return for each step the 50th, 95th and 99th percentile in milliseconds, and how often it was timed."""
        return {
            name: dict(
                zip(("p50", "p95", "p99"), (float(v) for v in np.percentile(times, (50, 95, 99)) * 1000), strict=True)
            )
            | {"count": len(times)}
            for name, times in self._times.items()
        }


def times_table(summary: Mapping[str, Mapping[str, float]]) -> str:
    """Return a summary of :class:`StepTimes` as lines of text."""
    lines = [f"{'step':<14}{'p50':>9}{'p95':>9}{'p99':>9}  ms"]
    lines += [
        f"{name:<14}" + "".join(f"{row[share]:>9.2f}" for share in ("p50", "p95", "p99"))
        for name, row in summary.items()
    ]
    return "\n".join(lines)

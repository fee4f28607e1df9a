"""A computation of fixed shapes, captured once as a CUDA graph and replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

__all__ = ["GraphedStage", "capture_graph"]

_WARM_UP = 3  # calls before the capture: libraries choose their algorithms, and a compiled function is compiled

Computation = Callable[[], Any]


class GraphedStage:
    """Call a function through a CUDA graph; its kernels are launched all at once.

    The first call with new shapes warms up and captures; those that follow copy their tensors into the graph's input
    buffers and replay it. What is given back is a copy of the output buffers, as the next replay overwrites them and
    streams keep what they are given. Arguments that are no tensors become part of the graph: a new value is a new one.

    The function must not wait for the device, nor choose by what its tensors hold.

    Args:
        function: of tensors and plain values, all positional; gives a tensor, or a tuple or list of tensors.
        device: a CUDA device.
        capture: makes a graph of a computation that reads and writes buffers: returns the outputs' buffers, and what
            computes them anew; :func:`capture_graph` unless a test sets it.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        device: torch.device,
        capture: Callable[[Computation, torch.device], tuple[Any, Callable[[], None]]] | None = None,
    ) -> None:
        self._function, self._device = function, device
        self._capture = capture or capture_graph
        self._graphs: dict[tuple[Any, ...], tuple[list[torch.Tensor], Any, Callable[[], None]]] = {}

    def __call__(self, *arguments: Any) -> Any:
        tensors = [value for value in arguments if isinstance(value, torch.Tensor)]
        key = tuple(
            (value.shape, value.dtype, value.stride()) if isinstance(value, torch.Tensor) else value
            for value in arguments
        ) + _autocast(self._device)
        if key not in self._graphs:
            self._graphs[key] = self._make(arguments)
        inputs, outputs, replay = self._graphs[key]
        for buffer, value in zip(inputs, tensors, strict=True):
            buffer.copy_(value)
        replay()
        return pytree.tree_map(torch.clone, outputs)

    def _make(self, arguments: tuple[Any, ...]) -> tuple[list[torch.Tensor], Any, Callable[[], None]]:
        held = [value.clone() if isinstance(value, torch.Tensor) else value for value in arguments]
        enabled, dtype = _autocast(self._device)

        def compute() -> Any:
            # Weights that autocast has cast and keeps would be gone when the graph is replayed: it keeps none here.
            with torch.autocast(self._device.type, dtype=dtype, enabled=enabled, cache_enabled=False):
                return self._function(*held)

        outputs, replay = self._capture(compute, self._device)
        return [value for value in held if isinstance(value, torch.Tensor)], outputs, replay


def _autocast(device: torch.device) -> tuple[bool, torch.dtype]:
    return torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type)


def capture_graph(compute: Computation, device: torch.device) -> tuple[Any, Callable[[], None]]:
    """Warm a computation up and capture it.

    Returns:
        Its outputs' buffers, and what replays it on the current stream.
    """
    with torch.cuda.device(device):
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside), torch.no_grad():
            for _ in range(_WARM_UP):
                compute()
        torch.cuda.current_stream().wait_stream(aside)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the device meanwhile: what they do does not end the capture.
        with torch.no_grad(), torch.cuda.graph(graph, capture_error_mode="thread_local"):
            outputs = compute()
    return outputs, graph.replay

"""Inference and training steps in mixed precision, on CUDA and on CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.inferers import SimpleInferer

__all__ = ["AutocastInferer"]


class AutocastInferer(SimpleInferer):
    """One pass of the network under autocast; the result is float32.

    MONAI's engines autocast on CUDA only. With this inferer a CPU that has bf16 arithmetic uses it too.

    Args:
        dtype: the type of autocast; float32 switches it off.
        arguments: further arguments of the network, by name, the same for each call.
        network: what is called in the place of the engine's network: the part of it that is trained, say. The engine's
            own is then the whole pipeline, whose weights are what federated learning exchanges.
    """

    def __init__(
        self,
        dtype: torch.dtype = torch.float32,
        arguments: Mapping[str, Any] | None = None,
        network: torch.nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.dtype, self.arguments, self.network = dtype, dict(arguments or {}), network

    def __call__(self, inputs: torch.Tensor, network: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.Tensor:
        network = network if self.network is None else self.network
        with torch.autocast(inputs.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            return network(inputs, *args, **self.arguments, **kwargs).float()

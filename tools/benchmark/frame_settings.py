"""The settings in which networks for single frames are timed, and a network as a setting runs it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from common.engines import Precision
from common.errors import InputError
from tools.stream.cuda_graph import GraphedStage

__all__ = ["PreparedNetwork", "Setting"]


@dataclass(frozen=True)
class Setting:
    """How networks run.

    Attributes:
        precision: ``fp32``, ``bf16`` or ``fp16``, of autocast.
        channels_last: whether weights and frames lie in memory with the channels last.
        compiled: whether ``torch.compile`` is used.
        cuda_graph: whether a frame's operations are recorded once and played back as one.
    """

    precision: str = "fp32"
    channels_last: bool = False
    compiled: bool = False
    cuda_graph: bool = False

    def check(self, device: torch.device) -> None:
        """Refuse what a device cannot do.

        Raises:
            InputError: names the option.
        """
        Precision(self.precision, device)
        if self.cuda_graph and device.type != "cuda":
            raise InputError("--cuda_graphs yes", f"does not run on {device.type}", "choose no, or pass --device cuda")

    def words(self) -> str:
        """Return it as words."""
        flags = {"channels last": self.channels_last, "compiled": self.compiled, "CUDA graph": self.cuda_graph}
        return ", ".join([self.precision, *(name for name, on in flags.items() if on)])

    def row(self) -> dict[str, Any]:
        """Return it as entries of a row."""
        return asdict(self)


class PreparedNetwork(nn.Module):
    """A network in a setting, for one frame at a time.

    Args:
        network: maps frames (1, 3, H, W); in evaluation mode, on the device. The layout of its weights is changed in
            place.
        setting: how it runs; what is compiled or recorded is so at the first call.
        device: where it is.

    Shapes:
        input ``(1, 3, H, W)`` in float32, output as the network's, in float32.
    """

    def __init__(self, network: nn.Module, setting: Setting, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.dtype = Precision(setting.precision, device).dtype
        self.layout = torch.channels_last if setting.channels_last else torch.contiguous_format
        self.network = network.to(memory_format=self.layout)
        call = torch.compile(self.network) if setting.compiled else self.network
        self.call = GraphedStage(call, device) if setting.cuda_graph else call

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the network to a frame."""
        x = x.contiguous(memory_format=self.layout)
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            return self.call(x).float()

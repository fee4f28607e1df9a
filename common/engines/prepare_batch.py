"""What a trainer takes from a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.engines import PrepareBatch

__all__ = ["PreparePartialLabelBatch"]


class PreparePartialLabelBatch(PrepareBatch):
    """Hand ``label`` and ``drawn`` together to the loss (see :class:`common.losses.MarginalLoss`).

    Plain tensors are handed on instead of MetaTensors: the loss and the network need no geometry, and tracking it costs
    time in every operation.

    Args:
        memory_format: for the image, such as ``torch.channels_last_3d``; None leaves it as it is.
    """

    def __init__(self, memory_format: torch.memory_format | None = None) -> None:
        self.memory_format = memory_format

    def __call__(
        self,
        batchdata: Mapping[str, torch.Tensor],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        def move(tensor: torch.Tensor, **to: Any) -> torch.Tensor:
            plain = tensor.as_tensor() if hasattr(tensor, "as_tensor") else tensor
            return plain.to(device=device, non_blocking=non_blocking, **to)

        layout = {} if self.memory_format is None else {"memory_format": self.memory_format}
        return move(batchdata["image"], **layout), {
            "label": move(batchdata["label"]),
            "drawn": move(batchdata["drawn"]),
        }

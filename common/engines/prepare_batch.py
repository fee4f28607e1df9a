"""What a trainer takes from a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from monai.engines import PrepareBatch

__all__ = ["PreparePartialLabelBatch", "PreparePlainBatch"]


class PreparePlainBatch(PrepareBatch):
    """Hand on ``image`` and ``label`` as plain tensors.

    The loss and the network need no geometry, and MetaTensors track it, which costs time in every operation.

    Args:
        memory_format: for the image, such as ``torch.channels_last_3d``; None leaves it as it is.
        label_key: what is handed on as the label.
    """

    def __init__(self, memory_format: torch.memory_format | None = None, label_key: str = "label") -> None:
        self.memory_format = memory_format
        self.label_key = label_key

    def __call__(
        self,
        batchdata: Mapping[str, torch.Tensor],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, Any]:
        def move(key: str, **to: Any) -> torch.Tensor:
            tensor = batchdata[key]
            plain = tensor.as_tensor() if hasattr(tensor, "as_tensor") else tensor
            return plain.to(device=device, non_blocking=non_blocking, **to)

        layout = {} if self.memory_format is None else {"memory_format": self.memory_format}
        return move("image", **layout), self._target(move)

    def _target(self, move: Callable[..., torch.Tensor]) -> Any:
        return move(self.label_key)


class PreparePartialLabelBatch(PreparePlainBatch):
    """Hand ``label`` and ``drawn`` together to the loss (see :class:`common.losses.MarginalLoss`)."""

    def _target(self, move: Callable[..., torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"label": move("label"), "drawn": move("drawn")}

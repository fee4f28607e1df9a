"""What the metrics of single frames have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from monai.metrics import CumulativeIterationMetric

__all__ = ["FrameMetric"]


class FrameMetric(CumulativeIterationMetric):
    """Collect something of each frame, over batches and processes; a frame that comes twice counts once.

    Call it with predictions and references, batches or lists of B, and with ``frame``, B numbers.

    Args:
        score: which of ``SCORES`` :meth:`aggregate` gives.
        threshold: from which probability on something is positive.

    Raises:
        ValueError: there is no such score.
    """

    SCORES: ClassVar[Sequence[str]]

    def __init__(self, score: str, threshold: float = 0.5) -> None:
        super().__init__()
        if score not in self.SCORES:
            raise ValueError(f"score must be one of {', '.join(self.SCORES)}, got {score!r}")
        self.score, self.threshold = score, threshold

    @abstractmethod
    def _of_frames(self, y_pred: Sequence[torch.Tensor], y: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return what is collected of B frames, one or more tensors (B, ...)."""

    def _compute_list(
        self, y_pred: Sequence[torch.Tensor], y: Sequence[torch.Tensor] | None = None, **kwargs: Any
    ) -> list[torch.Tensor]:
        if y is None:
            raise ValueError("a reference is needed")
        numbers = [int(number) for number in kwargs["frame"]]
        if not len(y_pred) == len(y) == len(numbers):
            counts = [len(y_pred), len(y), len(numbers)]
            raise ValueError(f"expected one prediction, reference and number of each frame, got {counts}")
        collected = self._of_frames(y_pred, y)
        return [torch.tensor(numbers, device=collected[0].device), *collected]

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> list[torch.Tensor]:
        return self._compute_list(y_pred, y, **kwargs)

    def _unique(self) -> list[np.ndarray] | None:
        """Return the numbers of all frames, rising, and what was collected of them; None where that is nothing."""
        buffer = self.get_buffer()
        if buffer is None:
            return None
        numbers, *collected = (part.cpu().numpy() for part in buffer)
        numbers, at = np.unique(numbers, return_index=True)
        return [numbers, *(part[at] for part in collected)]

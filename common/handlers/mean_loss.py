"""A loss as a metric of a validation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.handlers import from_engine
from monai.handlers.ignite_metric import IgniteMetricHandler
from monai.metrics import LossMetric

__all__ = ["NegativeLoss"]


class NegativeLoss(IgniteMetricHandler):
    """Minus the mean of a loss over the validation's items, each by itself: the larger the better, as a key metric is.

    Args:
        loss: takes prediction and reference, (1, ...) each; gives a scalar.
        keys: where they are in the evaluator's output.
    """

    def __init__(
        self, loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], keys: tuple[str, str] = ("pred", "label")
    ) -> None:
        metric = LossMetric(lambda pred, label: -loss(pred, label))
        super().__init__(metric, output_transform=from_engine(list(keys)))

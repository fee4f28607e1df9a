"""Metrics of structures as ignite handlers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.handlers import from_engine
from monai.handlers.ignite_metric import IgniteMetricHandler

from common.metrics import StructureDiceMetric, VoxelAccuracyMetric

__all__ = ["StructureDice", "VoxelAccuracy"]


class _DrawnMetric(IgniteMetricHandler):
    """A metric that needs to know what was drawn, besides prediction and reference.

    It takes ``pred``, ``label`` (channels, on the scan's own grid) and ``drawn`` from the engine.
    """

    def update(self, output: Sequence[Any]) -> None:
        """Score decollated predictions and references; ``drawn`` is taken from the same batch."""
        predictions, references = output
        drawn = from_engine("drawn")(self._engine.state.batch)
        for prediction, reference, case_drawn in zip(predictions, references, drawn, strict=True):
            self.metric_fn([prediction], [reference], drawn=[case_drawn])


class StructureDice(_DrawnMetric):
    """Mean Dice over the structures that are drawn and present (:class:`common.metrics.StructureDiceMetric`).

    Args:
        num_channels: C, the background included.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__(StructureDiceMetric(num_channels), output_transform=from_engine(["pred", "label"]))


class VoxelAccuracy(_DrawnMetric):
    """Share of voxels with the right channel (:class:`common.metrics.VoxelAccuracyMetric`).

    Args:
        num_channels: C, the background included.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__(VoxelAccuracyMetric(num_channels), output_transform=from_engine(["pred", "label"]))

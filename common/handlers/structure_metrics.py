"""Metrics of structures as ignite handlers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ignite.engine import Engine
from monai.handlers import from_engine
from monai.handlers.ignite_metric import IgniteMetricHandler

from common.metrics import StructureDiceMetric, VoxelAccuracyMetric

__all__ = ["StructureDice", "VoxelAccuracy"]


class _DrawnMetric(IgniteMetricHandler):
    """A metric that needs to know what was drawn, besides prediction and reference.

    It takes ``pred``, ``label`` (channels, on the scan's own grid) and ``drawn`` from the engine.
    """

    def iteration_completed(self, engine: Engine) -> None:
        """Score a decollated batch; ignite's own would hand them on one by one, without the case's ``drawn``."""
        scored = from_engine(["pred", "label"])(engine.state.output)
        self.update((*scored, from_engine("drawn")(engine.state.batch)))

    def update(self, output: Sequence[Any]) -> None:
        """Take predictions, references and ``drawn``, each a list of cases."""
        predictions, references, drawn = output
        self.metric_fn(predictions, references, drawn=drawn)


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

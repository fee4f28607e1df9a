"""Scores of segmented video as ignite metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from monai.handlers.ignite_metric import IgniteMetricHandler

from common.metrics import VideoSegmentationMetric

__all__ = ["VideoScore", "update_from"]


def update_from(metric: VideoSegmentationMetric, engine: Engine) -> None:
    """Add the clips of an evaluator's iteration to a metric.

    Args:
        metric: what collects.
        engine: its decollated output has ``prob``, (T, 1, h, w) probabilities, and ``label``, (T, 1, H, W); its batch
            has ``sequence_number``, ``frames`` and ``keep``, as :class:`common.data.video.VideoCases` gives them.
    """
    outputs: Sequence[Mapping[str, Any]] = engine.state.output
    batch: Sequence[Mapping[str, Any]] = engine.state.batch
    metric(
        [output["prob"] for output in outputs],
        [output["label"] for output in outputs],
        sequence=[int(item["sequence_number"]) for item in batch],
        frames=[torch.as_tensor(item["frames"]) for item in batch],
        keep=[torch.as_tensor(item["keep"]) for item in batch],
    )


class VideoScore(IgniteMetricHandler):
    """One of the scores of :class:`common.metrics.VideoSegmentationMetric`, over all sequences.

    Args:
        score: its name, such as ``Dice`` or ``maxDice``.
        collected_by: another of these, whose frames are scored: nothing is counted twice. Attach it before this one.
    """

    def __init__(self, score: str, collected_by: VideoScore | None = None) -> None:
        self.score = score
        self.collects = collected_by is None
        metric = VideoSegmentationMetric(score) if collected_by is None else collected_by.metric_fn
        super().__init__(metric, output_transform=lambda output: output)

    def reset(self) -> None:
        """Forget all frames."""
        if self.collects:
            super().reset()

    def iteration_completed(self, engine: Engine) -> None:
        """Take the clips of an iteration."""
        if self.collects:
            update_from(self.metric_fn, engine)

    def compute(self) -> float:
        """Return the score."""
        return self.metric_fn.scores().overall[self.score]

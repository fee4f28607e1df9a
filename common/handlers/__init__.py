"""Handlers for MONAI's engines: recording, progress, weights, reports, what inference writes."""

from __future__ import annotations

from .checkpoint_loader import StrictCheckpointLoader, load_weights
from .ensemble_loader import EnsembleCheckpointLoader
from .epoch_seed import EpochSeed
from .evaluation_report import EvaluationReport
from .frame_report import FrameReport
from .gradient_clamp import GradientClamp
from .gradient_norm import GradientNorm
from .mean_loss import NegativeLoss
from .pipeline_stages import EarlierStage, LaterStage
from .presence_report import PresenceReport
from .progress import Progress
from .segmentation_writer import SegmentationWriter
from .shared_buffers import SharedBuffers
from .stage_outputs import StageOutputs
from .structure_metrics import StructureDice, VoxelAccuracy
from .training_recorder import TrainingRecorder
from .video_report import VideoReport
from .video_scores import VideoScore
from .video_writer import VideoSegmentationWriter
from .weight_average import WeightAverage

__all__ = [
    "EarlierStage",
    "EnsembleCheckpointLoader",
    "EpochSeed",
    "EvaluationReport",
    "FrameReport",
    "GradientClamp",
    "GradientNorm",
    "LaterStage",
    "NegativeLoss",
    "PresenceReport",
    "Progress",
    "SegmentationWriter",
    "SharedBuffers",
    "StageOutputs",
    "StrictCheckpointLoader",
    "StructureDice",
    "TrainingRecorder",
    "VideoReport",
    "VideoScore",
    "VideoSegmentationWriter",
    "VoxelAccuracy",
    "WeightAverage",
    "load_weights",
]

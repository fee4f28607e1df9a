"""Measures of label maps."""

from __future__ import annotations

from .bootstrap import Bootstrap, Interval, Statistic
from .classification import (
    CLASSIFICATION_SCORES,
    ClassificationMetric,
    ClassificationScores,
    FramePresence,
    precision_recall_curve,
    roc_curve,
)
from .frame_results import EVALUATIONS, FrameResults
from .frame_segmentation import (
    SEGMENTATION_SCORES,
    FrameCounts,
    FrameSegmentationMetric,
    SegmentationScores,
    average_precision,
)
from .sequence_curves import SequenceCurves
from .structure_dice import (
    StructureDiceMetric,
    VoxelAccuracyMetric,
    dice_per_structure,
    joint_histogram,
    merged_dice,
    named_right,
)
from .surface_distance import SurfaceDistances, surface_distances
from .video_segmentation import CURVES, SCORES, VideoScores, VideoSegmentationMetric, flicker
from .volumes import structure_volumes, voxel_counts, voxel_volume

__all__ = [
    "CLASSIFICATION_SCORES",
    "CURVES",
    "EVALUATIONS",
    "SCORES",
    "SEGMENTATION_SCORES",
    "Bootstrap",
    "ClassificationMetric",
    "ClassificationScores",
    "FrameCounts",
    "FramePresence",
    "FrameResults",
    "FrameSegmentationMetric",
    "Interval",
    "SegmentationScores",
    "SequenceCurves",
    "Statistic",
    "StructureDiceMetric",
    "SurfaceDistances",
    "VideoScores",
    "VideoSegmentationMetric",
    "VoxelAccuracyMetric",
    "average_precision",
    "dice_per_structure",
    "flicker",
    "joint_histogram",
    "merged_dice",
    "named_right",
    "precision_recall_curve",
    "roc_curve",
    "structure_volumes",
    "surface_distances",
    "voxel_counts",
    "voxel_volume",
]

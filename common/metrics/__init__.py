"""Measures of label maps."""

from __future__ import annotations

from .structure_dice import StructureDiceMetric, VoxelAccuracyMetric, dice_per_structure, joint_histogram, named_right
from .surface_distance import SurfaceDistances, surface_distances
from .video_segmentation import SCORES, VideoScores, VideoSegmentationMetric, flicker
from .volumes import structure_volumes, voxel_counts, voxel_volume

__all__ = [
    "SCORES",
    "StructureDiceMetric",
    "SurfaceDistances",
    "VideoScores",
    "VideoSegmentationMetric",
    "VoxelAccuracyMetric",
    "dice_per_structure",
    "flicker",
    "joint_histogram",
    "named_right",
    "structure_volumes",
    "surface_distances",
    "voxel_counts",
    "voxel_volume",
]

"""Measures of label maps."""

from __future__ import annotations

from .structure_dice import StructureDiceMetric, VoxelAccuracyMetric, dice_per_structure, joint_histogram, named_right
from .volumes import structure_volumes, voxel_counts, voxel_volume

__all__ = [
    "StructureDiceMetric",
    "VoxelAccuracyMetric",
    "dice_per_structure",
    "joint_histogram",
    "named_right",
    "structure_volumes",
    "voxel_counts",
    "voxel_volume",
]

"""Measures of label maps."""

from __future__ import annotations

from common.metrics.volumes import structure_volumes, voxel_counts, voxel_volume

__all__ = ["structure_volumes", "voxel_counts", "voxel_volume"]

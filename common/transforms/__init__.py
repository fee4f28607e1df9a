"""Transforms that fit into MONAI's ``Compose``, for what MONAI has none."""

from __future__ import annotations

from .components import KeepLargestComponentd
from .labels import ChannelsToValuesd, DrawnStructuresd, KeepStructuresd, ValuesToChannelsd
from .spine_grid import CropAnteriorPosteriord, FitToGridd

__all__ = [
    "ChannelsToValuesd",
    "CropAnteriorPosteriord",
    "DrawnStructuresd",
    "FitToGridd",
    "KeepLargestComponentd",
    "KeepStructuresd",
    "ValuesToChannelsd",
]

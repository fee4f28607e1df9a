"""Transforms that fit into MONAI's ``Compose``, for what MONAI has none."""

from __future__ import annotations

from .clips import FramesFirstd, LoadClipd, NormalizeFramesd, RandSideCropd
from .components import KeepLargestComponentd
from .frames import LoadFramed
from .invert_to_labels import InvertToLabelsd
from .labelled_case import CheckLabelledCased
from .labels import ChannelsToValuesd, DrawnStructuresd, KeepStructuresd, ValuesToChannelsd
from .spine_grid import CropAnteriorPosteriord, FitToGridd

__all__ = [
    "ChannelsToValuesd",
    "CheckLabelledCased",
    "CropAnteriorPosteriord",
    "DrawnStructuresd",
    "FitToGridd",
    "FramesFirstd",
    "InvertToLabelsd",
    "KeepLargestComponentd",
    "KeepStructuresd",
    "LoadClipd",
    "LoadFramed",
    "NormalizeFramesd",
    "RandSideCropd",
    "ValuesToChannelsd",
]

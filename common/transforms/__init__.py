"""Transforms that fit into MONAI's ``Compose``, for what MONAI has none."""

from __future__ import annotations

from .box_cutmix import BoxCutMixMask
from .clips import FramesFirstd, FrameToPictured, LoadClipd, NormalizeFramesd, RandSideCropd
from .components import KeepLargestComponentd
from .frames import LoadFramed
from .ghosting import RandGhostingd
from .half_resolution import HalveInPlaned
from .invert_to_labels import InvertToLabelsd
from .labelled_case import CheckLabelledCased
from .labels import ChannelsToValuesd, DrawnStructuresd, KeepStructuresd, ValuesToChannelsd
from .level_order import OrderLevelsd
from .sagittal_volume import CropToSignald, NormalizeSignald, ResampleSagittald
from .slice_augmentation import RandAugmentSliced, RandSimilarityd
from .slice_triples import RandSliceTripled
from .spine_grid import CropAnteriorPosteriord, FitToGridd
from .volume_augmentation import RandAugmentVolumed
from .window_patches import RandWindowPatchesd

__all__ = [
    "BoxCutMixMask",
    "ChannelsToValuesd",
    "CheckLabelledCased",
    "CropAnteriorPosteriord",
    "CropToSignald",
    "DrawnStructuresd",
    "FitToGridd",
    "FrameToPictured",
    "FramesFirstd",
    "HalveInPlaned",
    "InvertToLabelsd",
    "KeepLargestComponentd",
    "KeepStructuresd",
    "LoadClipd",
    "LoadFramed",
    "NormalizeFramesd",
    "NormalizeSignald",
    "OrderLevelsd",
    "RandAugmentSliced",
    "RandAugmentVolumed",
    "RandGhostingd",
    "RandSideCropd",
    "RandSimilarityd",
    "RandSliceTripled",
    "RandWindowPatchesd",
    "ResampleSagittald",
    "ValuesToChannelsd",
]

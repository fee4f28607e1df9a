"""Data sets of single frames, some with what is to be found and some without."""

from __future__ import annotations

from .frame_cases import FrameCases
from .frame_list import find_frames
from .grouped_folds import assign_groups, check_leak, split_frames
from .labelled_frame import LabelledFrame
from .labelme import read_labelme
from .pictures import read_frame, read_mask

__all__ = [
    "FrameCases",
    "LabelledFrame",
    "assign_groups",
    "check_leak",
    "find_frames",
    "read_frame",
    "read_labelme",
    "read_mask",
    "split_frames",
]

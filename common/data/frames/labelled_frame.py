"""What is known of one frame of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from common.data.video.layouts import FrameReference

__all__ = ["LabelledFrame", "MaskReference"]

# A mask picture or a frame of a mask video; or {"labelme": file, "labels": the labels that count, or None for all}.
MaskReference = FrameReference | dict[str, Any]


@dataclass(frozen=True)
class LabelledFrame:
    """One frame, and what is known of it.

    Args:
        id: unique in the data set.
        image: where the frame is.
        mask: where what is to be segmented is drawn; None where nothing was drawn.
        present: whether it can be seen; None only while a data set is being read.
        patient: whose frame it is: frames of one patient stay together. None only while a data set is being read.
        part: ``train``, ``validation`` or ``test``, where that is laid down.
        fold: of the cross-validation, where that is laid down.
    """

    id: str
    image: FrameReference
    mask: MaskReference | None
    present: bool | None = None
    patient: str | None = None
    part: str | None = None
    fold: int | None = None

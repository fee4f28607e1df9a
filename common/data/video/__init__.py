"""Video in and out, and data sets of video sequences."""

from __future__ import annotations

from .cases import VideoCases
from .clip_stream import ClipStream
from .frames import Frame, FrameSource
from .layouts import VideoSequence
from .phantom import VideoPhantom, make_video_phantom, write_video_phantoms
from .sequences import find_sequences
from .source import list_sources, open_source, read_frames
from .writer import MaskVideoWriter, OverlayVideoWriter, VideoWriter, write_mask_png

__all__ = [
    "ClipStream",
    "Frame",
    "FrameSource",
    "MaskVideoWriter",
    "OverlayVideoWriter",
    "VideoCases",
    "VideoPhantom",
    "VideoSequence",
    "VideoWriter",
    "find_sequences",
    "list_sources",
    "make_video_phantom",
    "open_source",
    "read_frames",
    "write_mask_png",
    "write_video_phantoms",
]

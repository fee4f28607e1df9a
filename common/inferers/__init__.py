"""How a network is applied to data."""

from __future__ import annotations

from .autocast import AutocastInferer
from .device_frames import DeviceFrames
from .frame_stream import FrameStream
from .gated import GatedInferer

__all__ = ["AutocastInferer", "DeviceFrames", "FrameStream", "GatedInferer"]

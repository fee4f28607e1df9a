"""How a network is applied to data."""

from __future__ import annotations

from .autocast import AutocastInferer
from .context import ContextInferer
from .device_frames import DeviceFrames
from .ensemble import EnsembleInferer
from .flips import FlipInferer, with_flips
from .frame_stream import FrameStream
from .gated import GatedInferer
from .hybrid import HybridInferer

__all__ = [
    "AutocastInferer",
    "ContextInferer",
    "DeviceFrames",
    "EnsembleInferer",
    "FlipInferer",
    "FrameStream",
    "GatedInferer",
    "HybridInferer",
    "with_flips",
]

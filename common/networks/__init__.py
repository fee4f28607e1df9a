"""Networks of the collection; they import torch and MONAI only."""

from __future__ import annotations

from common.networks.clip_unet import ClipUNet
from common.networks.funet import FUnet
from common.networks.per_frame import PerFrame
from common.networks.pnsnet import PNSNet
from common.networks.safnet import SAFNet

__all__ = ["ClipUNet", "FUnet", "PNSNet", "PerFrame", "SAFNet"]

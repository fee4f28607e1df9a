"""Networks of the collection; they import torch and MONAI only."""

from __future__ import annotations

from common.networks.safnet import SAFNet

__all__ = ["SAFNet"]

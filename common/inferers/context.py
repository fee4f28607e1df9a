"""The first of SSHSNet's stages by itself."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.inferers import Inferer

__all__ = ["ContextInferer"]


class ContextInferer(Inferer):
    """Class probabilities (B, C, H, W, D) of whole volumes (B, 1, H, W, D) by SSHSNet's first stage alone.

    It sees the volume at half its size in the plane; its probabilities are enlarged to the volume's (trilinear).

    Args:
        dtype: the type of autocast; float32 switches it off.
    """

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype = dtype

    def __call__(self, inputs: torch.Tensor, network: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.Tensor:
        volume = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        height, width = volume.shape[2:4]
        # The encoders halve the picture four times, and there is one halving before them.
        padded = F.pad(volume, (0, 0, 0, -width % 32, 0, -height % 32))
        with torch.autocast(volume.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            probabilities, _ = network.context(padded, None, None, False)
        whole = F.interpolate(probabilities.float(), padded.shape[2:], mode="trilinear", align_corners=False)
        whole = whole[:, :, :height, :width]
        return MetaTensor(whole, meta=inputs.meta) if isinstance(inputs, MetaTensor) else whole

"""The classical U-Net with FUnet's two attention modules."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from common.networks.clip_network import ClipNetwork
from common.networks.inter_frame_attention import InterFrameAttention
from common.networks.light_rfb import LightRFB
from common.networks.unet_blocks import ClassicalUNet

__all__ = ["ClipUNet"]

_MEMORY_CHANNELS = 24
_MID_CHANNELS = 128


class ClipUNet(ClipNetwork):
    """A plain 2D U-Net that segments clips, its up-sections with CSA and its frames weighed by IFA.

    It shows that the two modules of the FUnet paper (https://arxiv.org/abs/2307.10955, section 2) fit into other
    networks, as the paper says. Choices of ours, in its spirit: IFA sees the map above the deepest, in the standard
    U-Net at 1/8 of the size and of 512 channels like FUnet's, reduced to 24 channels in the same way; CSA reduces grids
    of more than 32 positions a side before it attends.

    As in FUnet, the frame weights change no mask at 0.5.

    Args:
        frames: length T of the clips that the frame weights are built for. Defaults to 5.
        use_ifa: use inter-frame attention; without it the weights are 1 and clips may have any length.
        use_csa: use channel self-attention.
        spatial_size: height and width of the frames trained with, for the learned position maps.
        pos_init_std: standard deviation of the normal distribution that the position maps start from.
        features: widths of the levels, each twice the one before. Defaults to ``(64, 128, 256, 512, 1024)``.

    Raises:
        ValueError: an argument has none of the values above.
    """

    def __init__(
        self,
        frames: int = 5,
        use_ifa: bool = True,
        use_csa: bool = True,
        spatial_size: Sequence[int] = (256, 448),
        pos_init_std: float = 1.0,
        features: Sequence[int] = (64, 128, 256, 512, 1024),
    ) -> None:
        super().__init__("ClipUNet", frames, min_size=2 ** (len(features) - 1))
        self.use_ifa = use_ifa
        self.unet = ClassicalUNet(3, 1, features, spatial_size, use_csa, pos_init_std)
        self.low_rfb = LightRFB(features[-2], _MID_CHANNELS, _MEMORY_CHANNELS) if use_ifa else nn.Identity()
        self.ifa = InterFrameAttention(_MEMORY_CHANNELS, frames) if use_ifa else nn.Identity()

    def encode_frame(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map frames ``(N, 3, H, W)`` to the map that IFA sees ``(N, 24, h, w)`` and logits ``(N, 1, H, W)``."""
        self._check_frames(x)
        maps = self.unet.encode(x)
        return self.low_rfb(maps[-2]), self.unet.decode(maps)

    def decode(
        self, memories: torch.Tensor, currents: torch.Tensor, height: int, width: int, frame_weights: bool = True
    ) -> torch.Tensor:
        """Weigh the logits of the last S frames of clips: see :meth:`ClipNetwork.decode`."""
        if self.use_ifa and frame_weights:
            currents = currents * self.ifa(memories)[:, -currents.shape[1] :]
        return currents

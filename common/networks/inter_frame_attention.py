"""Inter-frame attention (IFA) of FUnet, for any network that segments the frames of a clip."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from common.networks.light_rfb import LightRFB

__all__ = ["InterFrameAttention"]


class InterFrameAttention(nn.Module):
    """One weight in (0, 1) for each frame of a clip, from the feature maps of all its frames.

    Source: "Spinal nerve segmentation method and dataset construction in endoscopic surgical scenarios", MICCAI 2023,
    https://arxiv.org/abs/2307.10955, section 2.2. A line marked (resolved) is this project's reading where the text is
    silent.

    The maps of T frames are stacked to T * C channels, oldest frame first. Four levels halve the channels until the
    last has T (120, 60, 30, 5 for T = 5 and C = 24), all at the maps' own size. At each level two linear layers make T
    numbers out of the mean over all positions (their hidden width is that of the level's output, resolved), and a
    light receptive field block narrows the map; the last level needs none. One linear layer and a sigmoid (resolved)
    make T weights out of the 4 * T numbers.

    The order of the frames matters: each has its own channels.

    Args:
        channels: channels C of each frame's map.
        frames: length T of the clips.

    Shapes:
        input ``(B, T, C, h, w)``, output ``(B, T, 1, 1, 1)``.
    """

    def __init__(self, channels: int, frames: int) -> None:
        super().__init__()
        self.channels = channels
        self.frames = frames
        stacked = channels * frames
        widths = [stacked, stacked // 2, stacked // 4, frames]
        hidden = [*widths[1:], max(frames // 2, 1)]
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, between, bias=False), nn.ReLU(inplace=True), nn.Linear(between, frames, bias=False)
            )
            for width, between in zip(widths, hidden, strict=True)
        )
        self.narrow = nn.ModuleList(
            LightRFB(width, (width + narrower) // 2, narrower) for width, narrower in pairwise(widths)
        )
        self.narrow.append(nn.Identity())
        self.fuse = nn.Linear(len(widths) * frames, frames)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Weigh the frames of clips.

        Args:
            maps: feature maps ``(B, T, C, h, w)``, oldest frame first.

        Returns:
            Weights ``(B, T, 1, 1, 1)`` in (0, 1).

        Raises:
            ValueError: the input has another number of frames or channels.
        """
        if maps.dim() != 5 or maps.shape[1] != self.frames or maps.shape[2] != self.channels:
            raise ValueError(
                f"inter-frame attention was built for clips of {self.frames} frames, maps of shape (batch, "
                f"{self.frames}, {self.channels}, h, w), got shape {list(maps.shape)}"
            )
        x = maps.flatten(1, 2)
        levels: list[torch.Tensor] = []
        for head, narrow in zip(self.heads, self.narrow, strict=True):
            levels.append(head(x.mean(dim=[2, 3])))
            x = narrow(x)
        weights = self.fuse(torch.cat(levels, dim=1)).sigmoid()
        return weights[:, :, None, None, None]

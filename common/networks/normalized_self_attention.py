"""Normalized self-attention over the frames of a clip: the block of PNSNet."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["NormalizedSelfAttention"]

_DILATIONS = (1, 3, 5, 7)
_WINDOW = 7


class NormalizedSelfAttention(nn.Module):
    """Self-attention of each position to a dilated 7 x 7 window in every frame of the clip, in plain PyTorch.

    Four heads, with dilations 1, 3, 5 and 7. The queries are layer-normalized over channels and positions of a frame
    and a head, with parameters that the heads share; so the size of the maps is fixed. Outside the map keys and values
    are 0: such positions have the score 0 and take part in the softmax. The values are summed with the scores
    themselves; the largest softmax score of all heads gates the result, one number a position.

    Source: Ji et al., "Progressively Normalized Self-Attention Network for Video Polyp Segmentation", MICCAI 2021,
    https://arxiv.org/abs/2105.08468, section 2.1, and the authors' code where the text leaves a choice. They use CUDA
    kernels of their own.

    Args:
        channels: channels C of the maps, a multiple of 4.
        grid: height h and width w of the maps.

    Shapes:
        input and output ``(B, T, C, h, w)``, any T.
    """

    def __init__(self, channels: int, grid: Sequence[int]) -> None:
        super().__init__()
        self.head_channels = channels // len(_DILATIONS)
        # As attributes, where TorchScript finds them.
        self.dilations, self.window = list(_DILATIONS), _WINDOW
        self.grid = [int(side) for side in grid]
        self.query = nn.Conv2d(channels, channels, 1, bias=False)
        self.key = nn.Conv2d(channels, channels, 1, bias=False)
        self.value = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.LayerNorm([self.head_channels, *self.grid])
        self.project = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Map ``(B, T, C, h, w)`` to the same shape.

        Raises:
            ValueError: h and w are others than ``grid``.
        """
        height, width = maps.shape[3], maps.shape[4]
        if height != self.grid[0] or width != self.grid[1]:
            raise ValueError(
                f"normalized self-attention was built for maps of {self.grid} positions, got [{height}, {width}]; "
                "frames must have the size that the network was built for"
            )
        clips = [maps.shape[0], maps.shape[1]]
        x = maps.flatten(0, 1)
        queries = self.query(x).split(self.head_channels, dim=1)
        keys = self.key(x).split(self.head_channels, dim=1)
        values = self.value(x).split(self.head_channels, dim=1)
        attended: list[torch.Tensor] = []
        strongest: list[torch.Tensor] = []
        for i, dilation in enumerate(self.dilations):
            query = self.norm(queries[i]).flatten(2).unflatten(0, clips)
            key = self._windows(keys[i], dilation).unflatten(0, clips)
            value = self._windows(values[i], dilation).unflatten(0, clips)
            # b clip, t frame of the query, u frame of the key, c channel, o offset in the window, p position
            scores = torch.einsum("btcp,bucop->btuop", [query, key.to(query.dtype)]) * self.head_channels**-0.5
            attended.append(torch.einsum("btuop,bucop->btcp", [scores, value.to(scores.dtype)]))
            # the largest of softmax(scores)
            scores = scores.flatten(2, 3).float()
            strongest.append((scores.amax(dim=2) - scores.logsumexp(dim=2)).exp())
        gate = torch.stack(strongest).amax(dim=0).unflatten(2, [1, height, width])
        result = self.project(torch.cat(attended, dim=2).flatten(0, 1).unflatten(2, [height, width]))
        return result.unflatten(0, clips) * gate.to(result.dtype)

    def _windows(self, x: torch.Tensor, dilation: int) -> torch.Tensor:
        """Map ``(N, c, h, w)`` to ``(N, c, 49, h * w)``, zeros outside the map."""
        windows = F.unfold(x, self.window, dilation=dilation, padding=self.window // 2 * dilation)
        return windows.unflatten(1, [x.shape[1], self.window * self.window])

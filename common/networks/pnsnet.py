"""PNSNet: progressively normalized self-attention for the segmentation of endoscopic video."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

import torch

from common.networks.clip_network import ClipNetwork
from common.networks.feature_fusion import FeatureFusion, SegmentationHead, resize
from common.networks.frame_features import HIGH_CHANNELS, FrameFeatures
from common.networks.normalized_self_attention import NormalizedSelfAttention

__all__ = ["PNSNet"]

_HIGH_STRIDE = 16


class PNSNet(ClipNetwork):
    """PNSNet, the baseline that FUnet is built on and compared with.

    Source: Ji et al., "Progressively Normalized Self-Attention Network for Video Polyp Segmentation", MICCAI 2021,
    https://arxiv.org/abs/2105.08468. The names are those of the sub-modules:

    - ``features``: low ``(N, 24, H / 8, W / 8)`` and high ``(N, 32, H / 16, W / 16)``, as in FUnet.
    - ``first`` and ``second``: normalized self-attention over the high maps of all frames, each with a residual, and
      one more residual around both.
    - ``fusion`` and ``head`` as in FUnet; bilinear upsampling.

    The attention takes clips of any length; ``frames`` is what a batch of frames and a stream are filled up to.
    ``frame_weights=False`` leaves the two blocks out, as in the original's training on single images.

    Args:
        frames: length T of the clips. Defaults to 5.
        spatial_size: height and width of the frames, which the attention is tied to. Defaults to ``(256, 448)``.
        pretrained_path: file with ImageNet weights for the backbone (:meth:`Res2Net50.load_imagenet`), ``None`` for
            none.

    Raises:
        ValueError: ``frames`` is below 1, or the file of weights does not fit.
    """

    def __init__(
        self,
        frames: int = 5,
        spatial_size: Sequence[int] = (256, 448),
        pretrained_path: str | PathLike[str] | None = None,
    ) -> None:
        super().__init__("PNSNet", frames, min_size=_HIGH_STRIDE)
        grid = [-(-side // _HIGH_STRIDE) for side in spatial_size]
        self.features = FrameFeatures(pretrained_path)
        self.first = NormalizedSelfAttention(HIGH_CHANNELS, grid)
        self.second = NormalizedSelfAttention(HIGH_CHANNELS, grid)
        self.fusion = FeatureFusion()
        self.head = SegmentationHead()

    def encode_frame(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map frames ``(N, 3, H, W)`` to high ``(N, 32, H / 16, W / 16)`` and low ``(N, 24, H / 8, W / 8)``."""
        self._check_frames(x)
        low, high = self.features(x)
        return high, low

    def decode(
        self, memories: torch.Tensor, currents: torch.Tensor, height: int, width: int, frame_weights: bool = True
    ) -> torch.Tensor:
        """Attend over all frames and segment the last S of them: see :meth:`ClipNetwork.decode`."""
        clips = [currents.shape[0], currents.shape[1]]
        highs = memories
        if frame_weights:
            highs = highs + self.first(highs)
            highs = highs + self.second(highs) + memories
        high = highs[:, -clips[1] :].flatten(0, 1)
        logits = self.head(self.fusion(currents.flatten(0, 1), high))
        return resize(logits, height, width).unflatten(0, clips)

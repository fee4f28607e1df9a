"""FUnet: segmentation of endoscopic video with a U-Net on deep features and two attention modules."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

import torch
from torch import nn

from common.networks.clip_network import ClipNetwork
from common.networks.feature_fusion import FeatureFusion, SegmentationHead, resize
from common.networks.frame_features import HIGH_CHANNELS, LOW_CHANNELS, FrameFeatures
from common.networks.inter_frame_attention import InterFrameAttention
from common.networks.unet_blocks import ClassicalUNet

__all__ = ["FUnet"]

_HIGH_STRIDE = 16


class FUnet(ClipNetwork):
    """FUnet: one foreground class in the frames of endoscopic video.

    Source: "Spinal nerve segmentation method and dataset construction in endoscopic surgical scenarios", MICCAI 2023,
    https://arxiv.org/abs/2307.10955. A line marked (resolved) is this project's reading where the text is silent.

    Shapes for a clip of 5 frames of 256 x 448; the names are those of the sub-modules:

    - ``features``: the first three stages of Res2Net-50 and two light receptive field blocks, low 5 x 24 x 32 x 56 and
      high 5 x 32 x 16 x 28.
    - ``seg_branch``: a whole classical U-Net on high (resolved), five levels down to 5 x 1024 x 1 x 1, the up-sections
      ending in channel self-attention (CSA); 5 x 32 x 16 x 28.
    - ``fusion`` of low and the branch's output, 5 x 16 x 32 x 56; ``head``: logits 5 x 1 x 32 x 56, without bias.
    - ``ifa``: inter-frame attention on low (resolved), one weight in (0, 1) a frame, which multiplies the logits
      (resolved); bilinear upsampling to 5 x 1 x 256 x 448.

    A positive factor for a whole frame changes no logit's sign: **the mask at 0.5 is the same with and without these
    weights**, they act through training and on the probabilities. ``ifa_target="feature"`` is a variant of ours in
    which they multiply the branch's output before the fusion, and do change the mask.

    In evaluation mode the weights are all that couples frames; see :class:`ClipNetwork` for how a stream makes use of
    it. In training mode, at 256 x 448, at least two frames are needed (batch size times T).

    With ``use_ifa`` and ``use_csa`` off this is the paper's baseline B*, for its ablation table.

    Args:
        frames: length T of the clips that the frame weights are built for. Defaults to 5.
        use_ifa: use inter-frame attention; without it the weights are 1 and clips may have any length.
        use_csa: use channel self-attention.
        spatial_size: height and width of the frames trained with. It decides the size of the learned position maps
            only; at other sizes these are resized.
        ifa_target: what the frame weights multiply, ``"logit"`` (the paper) or ``"feature"``.
        pretrained_path: file with ImageNet weights for the backbone (:meth:`Res2Net50.load_imagenet`), ``None`` for
            none.
        pos_init_std: standard deviation of the normal distribution that the position maps start from.
        unet_features: widths of the U-Net's levels, each twice the one before. Defaults to
            ``(64, 128, 256, 512, 1024)``.

    Raises:
        ValueError: an argument has none of the values above, or the file of weights does not fit.
    """

    def __init__(
        self,
        frames: int = 5,
        use_ifa: bool = True,
        use_csa: bool = True,
        spatial_size: Sequence[int] = (256, 448),
        ifa_target: str = "logit",
        pretrained_path: str | PathLike[str] | None = None,
        pos_init_std: float = 1.0,
        unet_features: Sequence[int] = (64, 128, 256, 512, 1024),
    ) -> None:
        super().__init__("FUnet", frames, min_size=_HIGH_STRIDE * 2 ** (len(unet_features) - 1))
        if ifa_target not in ("logit", "feature"):
            raise ValueError(f'FUnet expects `ifa_target` to be "logit" or "feature", got "{ifa_target}"')
        self.use_ifa = use_ifa
        self.weigh_feature = ifa_target == "feature"
        grid = [-(-side // _HIGH_STRIDE) for side in spatial_size]
        self.features = FrameFeatures(pretrained_path)
        self.seg_branch = ClassicalUNet(HIGH_CHANNELS, HIGH_CHANNELS, unet_features, grid, use_csa, pos_init_std)
        self.fusion = FeatureFusion()
        self.head = SegmentationHead()
        self.ifa = InterFrameAttention(LOW_CHANNELS, frames) if use_ifa else nn.Identity()

    def encode_frame(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute all but the frame weights and what follows them.

        Args:
            x: frames ``(N, 3, H, W)``.

        Returns:
            The low feature ``(N, 24, H / 8, W / 8)`` and what the weights multiply: logits ``(N, 1, H / 8, W / 8)``,
            or the seg branch's output ``(N, 32, H / 16, W / 16)`` with ``ifa_target="feature"``.
        """
        self._check_frames(x)
        low, high = self.features(x)
        high = self.seg_branch(high)
        return low, high if self.weigh_feature else self.head(self.fusion(low, high))

    def weigh(self, lows: torch.Tensor) -> torch.Tensor:
        """Weigh the frames of clips by inter-frame attention.

        Args:
            lows: low features ``(B, T, 24, h, w)``, oldest frame first.

        Returns:
            Weights ``(B, T, 1, 1, 1)`` in (0, 1); all 1 where the network is built without inter-frame attention.
        """
        if not self.use_ifa:
            return torch.ones_like(lows[:, :, :1, :1, :1])
        return self.ifa(lows)

    def emit(self, lows: torch.Tensor, weighed: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Compute the logits at full size.

        Args:
            lows: low features ``(N, 24, h, w)``.
            weighed: the second result of :meth:`encode_frame`, times the weights.
            height: height H of the output.
            width: width W of the output.

        Returns:
            Logits ``(N, 1, H, W)``.
        """
        logits = self.head(self.fusion(lows, weighed)) if self.weigh_feature else weighed
        return resize(logits, height, width)

    def decode(
        self, memories: torch.Tensor, currents: torch.Tensor, height: int, width: int, frame_weights: bool = True
    ) -> torch.Tensor:
        """Weigh and emit the last S frames of clips: see :meth:`ClipNetwork.decode`."""
        clips = [currents.shape[0], currents.shape[1]]
        if frame_weights:
            currents = currents * self.weigh(memories)[:, -clips[1] :]
        lows = memories[:, -clips[1] :]
        return self.emit(lows.flatten(0, 1), currents.flatten(0, 1), height, width).unflatten(0, clips)

"""SegFormer-B0 and -B1, from the optional package transformers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["SegFormer"]

_HIDDEN_SIZES = {"b0": (32, 64, 160, 256), "b1": (64, 128, 320, 512)}
_MIN_SIZE = 32


class SegFormer(nn.Module):
    """SegFormer with one logit at full size, new weights.

    Source: Xie et al., "SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers", 2021,
    https://arxiv.org/abs/2105.15203, tables 1 and 6; as compared in Rhee et al., "Comparison of deep learning models
    for real-time neural tissue segmentation in spinal endoscopy", table 5. The implementation is that of Hugging
    Face's transformers, which is imported when a SegFormer is built and not before; TorchScript cannot take it.

    Args:
        name: ``"b0"`` or ``"b1"``.
        attention: implementation of the attention as transformers names them, ``None`` for its choice. With
            ``"eager"`` torch's ``FlopCounterMode`` counts it on a CPU too.

    Raises:
        ValueError: there is no SegFormer of this name here.
        ImportError: the package transformers is not installed.

    Shapes:
        input ``(N, 3, H, W)``, at least 32 x 32, the paper's size is 512 x 512; output logits ``(N, 1, H, W)``,
        interpolated from a quarter of the size.
    """

    def __init__(self, name: str = "b0", attention: str | None = None) -> None:
        super().__init__()
        if name not in _HIDDEN_SIZES:
            raise ValueError(f"SegFormer expects `name` to be one of {', '.join(_HIDDEN_SIZES)}, got {name!r}")
        try:
            from transformers import SegformerConfig, SegformerForSemanticSegmentation
        except ImportError as error:
            raise ImportError(
                "SegFormer needs the package transformers; pip install -r tools/requirements-extra.txt"
            ) from error
        config = SegformerConfig(
            num_labels=1,
            depths=[2, 2, 2, 2],
            num_attention_heads=[1, 2, 5, 8],
            sr_ratios=[8, 4, 2, 1],
            hidden_sizes=list(_HIDDEN_SIZES[name]),
            decoder_hidden_size=256,
            **({} if attention is None else {"attn_implementation": attention}),
        )
        self.network = SegformerForSemanticSegmentation(config)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Segment frames.

        Args:
            x: frames ``(N, 3, H, W)``, intensities in [0, 1].

        Returns:
            Logits ``(N, 1, H, W)``; the sigmoid makes them probabilities.

        Raises:
            ValueError: the input has another rank or number of channels, or is too small.
        """
        if x.dim() != 4 or x.shape[1] != 3 or min(x.shape[2:]) < _MIN_SIZE:
            raise ValueError(
                f"SegFormer expects frames of shape (batch, 3, H, W) of at least {_MIN_SIZE} x {_MIN_SIZE} pixels, "
                f"got shape {list(x.shape)}"
            )
        logits = self.network(pixel_values=x).logits
        return F.interpolate(logits, size=x.shape[2:], mode="bilinear", align_corners=False)

"""Classifiers that say whether a frame shows neural tissue."""

from __future__ import annotations

import torch
from monai.networks.nets import resnet18, resnet34
from torch import nn

from common.networks.blocks import check_input
from common.networks.mobilenet_v3 import MobileNetV3Large

__all__ = ["FrameClassifier"]

_RESNETS = {"resnet18": resnet18, "resnet34": resnet34}
_NAMES = (*_RESNETS, "mobilenetv3")


class FrameClassifier(nn.Module):
    """One of the three classifiers of the first stage, with one logit.

    Source: Rhee et al., "Comparison of deep learning models for real-time neural tissue segmentation in spinal
    endoscopy", section "Image classification model", table 5.

    Args:
        name: ``"resnet18"`` or ``"resnet34"`` (MONAI's), or ``"mobilenetv3"`` (:class:`MobileNetV3Large`).
        width: share of the published number of channels, of the ResNets only.

    Raises:
        ValueError: there is no classifier of this name or width.

    Shapes:
        input ``(N, 3, H, W)``, the paper's size is 224 x 224; output ``(N, 1)``.
    """

    def __init__(self, name: str = "resnet18", width: float = 1.0) -> None:
        super().__init__()
        if name not in _NAMES:
            raise ValueError(f"FrameClassifier expects `name` to be one of {', '.join(_NAMES)}, got {name!r}")
        if not width > 0 or (width != 1 and name not in _RESNETS):
            raise ValueError(f"FrameClassifier has no {name} of `width` {width}")
        self.name = name
        if name in _RESNETS:
            # MONAI's default stride of 1, meant for small volumes, costs four times the operations.
            self.network = _RESNETS[name](
                spatial_dims=2, n_input_channels=3, num_classes=1, conv1_t_stride=2, widen_factor=float(width)
            )
        else:
            self.network = MobileNetV3Large()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify frames.

        Args:
            x: frames ``(N, 3, H, W)``, intensities in [0, 1].

        Returns:
            Logits ``(N, 1)``; the sigmoid makes them the probability that neural tissue is in sight.

        Raises:
            ValueError: the input has another rank or number of channels.
        """
        check_input(x, self.name, 3, [1, 1])
        return self.network(x)

"""What a trained network would answer, where the weights are random."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.transforms import EnsureChannelFirst, LoadImage, SpatialResample
from monai.utils import CommonKeys

from common.data import LabelScheme

__all__ = ["LabelScores"]

_SURE = 8.0  # a trained network's logit of the right class, about


class LabelScores:
    """Replace a prediction by logits of the scan's known labels.

    Random weights give noise, and noise is not what post-processing and writers meet: they look only where structures
    are, and compress and draw label maps.

    Args:
        labels: label maps by the scan's ``id``.
        scheme: name of the label scheme.
    """

    def __init__(self, labels: Mapping[str, str], scheme: str) -> None:
        self.labels, self.table = labels, torch.from_numpy(LabelScheme.load(scheme).value_to_channel)
        self.channels: dict[str, torch.Tensor] = {}

    def __call__(self, engine: Engine) -> None:
        """Write over ``pred`` of the engine's output, (1, C, D, H, W), in place."""
        name, image = engine.state.batch["id"][0], engine.state.output[CommonKeys.IMAGE]
        pred = engine.state.output[CommonKeys.PRED]
        pred = pred.as_tensor() if isinstance(pred, MetaTensor) else pred
        if name not in self.channels:
            label = EnsureChannelFirst(channel_dim="no_channel")(LoadImage()(self.labels[name]))
            affine = torch.as_tensor(image.affine).cpu().reshape(-1, 4, 4)[0]
            label = SpatialResample(mode="nearest")(label, dst_affine=affine, spatial_size=image.shape[2:])
            self.channels[name] = self.table[label.as_tensor().long()]
        pred.zero_()
        pred.scatter_(1, self.channels[name][None].to(pred.device).long(), _SURE)

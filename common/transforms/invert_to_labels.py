"""From scores on the network's grid to a label map on the scan's."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from copy import deepcopy

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, allow_missing_keys_mode
from monai.transforms.utils import convert_applied_interp_mode

__all__ = ["InvertToLabelsd"]


class InvertToLabelsd(MapTransform):
    """Invert preprocessing and take the channel of the largest score, in one.

    The result is that of MONAI's ``Invertd`` followed by ``AsDiscreted(argmax=True)``. Those two bring each channel to
    the scan's size first: for 18 channels that took longer than all the rest but the network, and gigabytes of memory.
    Here the last resampling ends in the argmax (:class:`common.transforms.axis_resample.AxisResample`), and only the
    label map is brought back through the remaining transforms, whose padding is channel 0.

    Args:
        keys: scores (C, ...) on the network's grid, of which channel 0 is what lies outside of it.
        transform: the preprocessing; of its invertible transforms the last one that interpolates is ``FitToGridd``.
        orig_key: the item that went through it.
        allow_missing_keys: skip keys that an item lacks.

    The label map is a MetaTensor (1, X, Y, Z) of uint8 with the scan's own geometry.
    """

    def __init__(
        self,
        keys: KeysCollection,
        transform: InvertibleTransform,
        orig_key: str = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform, self.orig_key = transform, orig_key

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        d = dict(data)
        image = d[self.orig_key]
        operations = convert_applied_interp_mode(image.applied_operations, mode="argmax")
        for key in self.key_iterator(d):
            scores = d[key].as_tensor() if isinstance(d[key], MetaTensor) else d[key]
            scores = MetaTensor(scores.detach(), meta=deepcopy(image.meta), applied_operations=deepcopy(operations))
            with allow_missing_keys_mode(self.transform):
                d[key] = self.transform.inverse({self.orig_key: scores})[self.orig_key]
        return d

"""Single frames, what is drawn on them, and whether anything is there, as MONAI's 2D transforms take them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform

from common.data.frames.pictures import read_frame, read_mask, reference_name
from common.errors import InputError

__all__ = ["LoadFramed"]


class LoadFramed(MapTransform):
    """Load a frame, its mask and whether anything is present.

    Rows come first, then columns, as in :mod:`common.transforms.clips`, whose ``NormalizeFramesd`` and
    ``FramesFirstd`` take what this gives.

    Args:
        image_key: where the frame is: a picture file, or (video file, frame number). It becomes a MetaTensor
            (3, H, W), float32, 0..255, whose ``meta`` has ``filename_or_obj``, ``spatial_shape`` and ``is_clip``
            (False).
        label_key: where its mask is: a picture, a frame of a mask video, ``{"labelme": file, "labels": ...}``, or None
            where nothing is drawn. It becomes a MetaTensor (1, H, W), float32, 0 and 1.
        present_key: whether what is to be segmented can be seen; it becomes a tensor (1,), float32, 0 or 1.
        load_label: False takes the mask's reference out of the item, unread: a classifier needs none.
        allow_missing_keys: an item may lack the mask and ``present``, as frames to be segmented do.

    Raises:
        InputError: a picture cannot be read, the mask's size is not the frame's, or an item stated as a positive has
            no mask.
        KeyError: a key is missing.
    """

    def __init__(
        self,
        image_key: str = "image",
        label_key: str = "label",
        present_key: str = "present",
        load_label: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__((image_key, label_key, present_key), allow_missing_keys)
        self.image_key, self.label_key, self.present_key = image_key, label_key, present_key
        self.load_label = load_label

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        reference = d[self.image_key]
        found = set(self.key_iterator(d))  # complains of what is missing and may not
        frame = read_frame(reference)
        d[self.image_key] = _tensor(np.moveaxis(frame, -1, 0), reference)
        if not self.load_label:
            d.pop(self.label_key, None)
        elif self.label_key in found:
            mask = self._mask(d, reference, frame.shape[:2])
            d[self.label_key] = _tensor(mask[None], reference)
        if self.present_key in found:
            d[self.present_key] = torch.tensor([float(bool(d[self.present_key]))])
        return d

    def _mask(self, d: Mapping[Hashable, Any], frame: Any, size: tuple[int, int]) -> np.ndarray:
        reference = d[self.label_key]
        if reference is not None:
            return read_mask(reference, size)
        if d.get(self.present_key, False):
            raise InputError(reference_name(frame), "is a positive without a mask", "draw it, or leave the frame out")
        return np.zeros(size, bool)


def _tensor(values: np.ndarray, reference: Any) -> MetaTensor:
    name = reference if isinstance(reference, str) else reference[0]
    meta = {"filename_or_obj": str(name), "spatial_shape": np.array(values.shape[1:]), "is_clip": False}
    return MetaTensor(torch.from_numpy(values.astype(np.float32)), meta=meta)

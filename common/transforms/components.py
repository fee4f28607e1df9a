"""Connected components of label maps."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from scipy import ndimage

__all__ = ["KeepLargestComponentd"]


class KeepLargestComponentd(MapTransform):
    """Keep the largest connected component of each structure; the rest becomes background.

    MONAI's own transform needs scikit-image, which is no requirement of the bundles.

    Args:
        keys: label maps (1, X, Y, Z) with integer values.
        allow_missing_keys: skip keys that an item lacks.

    Voxels that share a face are connected.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        d = dict(data)
        for key in self.key_iterator(d):
            volume = d[key]
            labels = np.array(volume.cpu() if isinstance(volume, torch.Tensor) else volume)[0]
            for index, box in enumerate(ndimage.find_objects(labels.astype(np.int32)), start=1):
                if box is None:
                    continue
                parts, count = ndimage.label(labels[box] == index)
                if count > 1:
                    sizes = np.bincount(parts.ravel())
                    sizes[0] = 0
                    labels[box][(parts > 0) & (parts != sizes.argmax())] = 0
            kept = torch.from_numpy(labels[None]).to(volume.device)
            d[key] = (
                MetaTensor(kept, meta=volume.meta, applied_operations=volume.applied_operations)
                if isinstance(volume, MetaTensor)
                else kept
            )
        return d

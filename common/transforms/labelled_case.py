"""Whether an image and its label map can be learned from, or be scored against."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from itertools import product

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform

from common.data.volume_checks import check_picture
from common.errors import InputError

__all__ = ["CheckLabelledCased"]

# In voxels. One geometry in two headers: a quaternion in float32 may turn the far corner of a large volume by this much
# against its matrix. A shift by half a voxel, as careless resampling leaves it, is above.
_TOLERANCE = 0.25


class CheckLabelledCased(Transform):
    """Refuse an image without a picture in it, and a label map that does not lie on its image.

    Labels are compared with predictions voxel by voxel, so both have to have one grid: the same size, and corners that
    are less than a quarter of a voxel apart.

    Args:
        image_key: the image, a MetaTensor (1, X, Y, Z).
        label_key: the label map, likewise.

    Raises:
        InputError: the image has values that are not finite, or one value everywhere; the label map has another size,
            or lies elsewhere. The message names the files.
    """

    def __init__(self, image_key: str = "image", label_key: str = "label") -> None:
        self.image_key, self.label_key = image_key, label_key

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        image, label = data[self.image_key], data[self.label_key]
        files = [volume.meta["filename_or_obj"] for volume in (image, label)]
        check_picture(files[0], image.numpy())
        if image.shape != label.shape:
            sizes = [" x ".join(map(str, volume.shape[1:])) for volume in (image, label)]
            raise InputError(
                files[1], f"has {sizes[1]} voxels, its image {files[0]} has {sizes[0]}", "draw it on that image"
            )
        if (apart := _corners_apart(image, label)) > _TOLERANCE:
            raise InputError(
                files[1],
                f"does not lie where its image {files[0]} does (their corners are {apart:.3g} voxels apart)",
                "resample it onto the image",
            )
        return dict(data)


def _corners_apart(image: MetaTensor, label: MetaTensor) -> float:
    """Return how far the corners of two grids of one size are apart at most, along an axis of the image, in voxels."""
    corners = np.array([(*corner, 1) for corner in product(*((0, size - 1) for size in image.shape[1:]))]).T
    to_image = np.linalg.inv(np.asarray(image.affine, dtype=float)) @ np.asarray(label.affine, dtype=float)
    return float(np.abs(to_image @ corners - corners).max())

"""What nnU-Net does around its network at inference, as components of a bundle's configuration.

Source: Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation",
Nature Methods 18 (2021), 203-211, Methods and Supplementary Note 2. Its crop to non-zero voxels is left out: the noise
of MR leaves it nothing to cut.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.transforms import MapTransform
from scipy import ndimage

from tools.benchmark.nnunet_plan import is_anisotropic

__all__ = ["FromPlanGridd", "MirroredWindowInferer", "ToPlanGridd", "axis_order", "resample", "spacing_of"]


def spacing_of(affine: np.ndarray) -> np.ndarray:
    """Return the spacing along the voxel axes, mm, of a 4x4 voxel-to-world matrix."""
    return np.sqrt((np.asarray(affine, dtype=float)[:3, :3] ** 2).sum(axis=0))


def axis_order(spacing: Sequence[float]) -> list[int]:
    """Return the axes with that of the largest spacing first, the others in their order."""
    first = int(np.argmax(spacing))
    return [first, *(axis for axis in range(len(spacing)) if axis != first)]


def resample(volume: np.ndarray, shape: Sequence[int], separate: bool, order: int) -> np.ndarray:
    """Resample so that the outer edges stay where they are.

    Args:
        volume: (D, H, W), the axis of the largest spacing first.
        shape: the new size.
        separate: resample each slice by itself, and take the nearest slice along D: nnU-Net's way where the spacing is
            anisotropic.
        order: of the spline, 3 for images, 1 for probabilities.

    Returns:
        float32 of that size; the volume itself where that is its size.
    """
    shape = tuple(int(n) for n in shape)
    if volume.shape == shape:
        return volume
    options: dict[str, Any] = {"order": order, "mode": "nearest", "grid_mode": True, "output": np.float32}
    if not separate:
        return ndimage.zoom(volume, np.divide(shape, volume.shape), **options)
    if volume.shape[1:] != shape[1:]:
        volume = np.stack([ndimage.zoom(plane, np.divide(shape[1:], plane.shape), **options) for plane in volume])
    nearest = ((np.arange(shape[0]) + 0.5) * volume.shape[0] / shape[0]).astype(int)
    return volume[nearest]


class ToPlanGridd(MapTransform):
    """Turn a scan's axis of the largest spacing to the front and resample it to a plan's spacing.

    Args:
        keys: MetaTensors (1, X, Y, Z) on the scan's own grid; they become (1, D, H, W).
        spacing: of the plan, mm.
    """

    def __init__(self, keys: KeysCollection, spacing: Sequence[float]) -> None:
        super().__init__(keys)
        self.spacing = tuple(float(value) for value in spacing)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        d = dict(data)
        for key in self.key_iterator(d):
            affine = np.asarray(d[key].affine, dtype=float)
            own = spacing_of(affine)
            order = axis_order(own)
            volume = np.asarray(d[key].as_tensor()[0]).transpose(order)
            shape = np.maximum(np.round(volume.shape * own[order] / self.spacing), 1).astype(int)
            separate = is_anisotropic(own) or is_anisotropic(self.spacing)
            resampled = resample(volume, shape, separate, order=3)
            scale = np.divide(volume.shape, shape)
            to_scan = np.zeros((4, 4))
            to_scan[order, range(3)] = scale
            to_scan[order, 3] = scale / 2 - 0.5  # the edges stay, so the voxels' centres move
            to_scan[3, 3] = 1
            voxels = torch.from_numpy(np.ascontiguousarray(resampled))[None]
            d[key] = MetaTensor(voxels, meta=dict(d[key].meta) | {"affine": torch.from_numpy(affine @ to_scan)})
        return d


class FromPlanGridd(MapTransform):
    """Bring probabilities back to the scan's own grid (linear) and take the largest; undoes :class:`ToPlanGridd`.

    Args:
        keys: probabilities (C, D, H, W); they become the channel's number, MetaTensors (1, X, Y, Z) of uint8.
        spacing: of the plan, mm.
        orig_key: the scan, whose metadata tells what its grid was.
    """

    def __init__(self, keys: KeysCollection, spacing: Sequence[float], orig_key: str = "image") -> None:
        super().__init__(keys)
        self.spacing, self.orig_key = tuple(float(value) for value in spacing), orig_key

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        d = dict(data)
        meta = d[self.orig_key].meta
        affine = np.asarray(meta["original_affine"], dtype=float)
        own = spacing_of(affine)
        order = axis_order(own)
        shape = np.asarray(meta["spatial_shape"])[order]
        separate = is_anisotropic(own) or is_anisotropic(self.spacing)
        for key in self.key_iterator(d):
            channels = d[key].as_tensor() if isinstance(d[key], MetaTensor) else d[key]
            largest: np.ndarray | None = None
            for number, channel in enumerate(channels.cpu().numpy()):
                scores = resample(channel, shape, separate, order=1)
                if largest is None:
                    largest, labels = np.array(scores), np.zeros(scores.shape, np.uint8)
                    continue
                better = scores > largest
                labels[better] = number
                np.maximum(largest, scores, out=largest)
            labels = np.ascontiguousarray(labels.transpose(np.argsort(order)))[None]
            d[key] = MetaTensor(torch.from_numpy(labels), meta=dict(meta) | {"affine": torch.from_numpy(affine)})
        return d


class MirroredWindowInferer(SlidingWindowInferer):
    """A Gaussian-weighted sliding window, each window the mean over all mirrorings of its axes; under autocast.

    nnU-Net mirrors all three axes of a 3D network, anisotropic or not: eight passes a window. Its windows are taken one
    by one and the sum is float32 here.

    Args:
        roi_size: the window.
        overlap: of neighbouring windows.
        mirror_axes: spatial axes, 0 to 2; none: one pass.
        dtype: the type of autocast; float32 switches it off.
    """

    def __init__(
        self,
        roi_size: Sequence[int],
        overlap: float = 0.5,
        mirror_axes: Sequence[int] = (0, 1, 2),
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(roi_size=roi_size, sw_batch_size=1, overlap=overlap, mode="gaussian", sigma_scale=0.125)
        self.dtype = dtype
        dims = [axis + 2 for axis in mirror_axes]
        self.flips = [flip for n in range(len(dims) + 1) for flip in itertools.combinations(dims, n)]

    def __call__(self, inputs: torch.Tensor, network: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.Tensor:
        def mirrored(window: torch.Tensor) -> torch.Tensor:
            with torch.autocast(window.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
                total = network(window).float()
                for flip in self.flips[1:]:
                    total += network(window.flip(flip)).float().flip(flip)
            return total / len(self.flips)

        volume = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        return super().__call__(volume, mirrored, *args, **kwargs)

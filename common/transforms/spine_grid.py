"""From a scan's own grid to the network's and back (SAFNet paper, "Data preprocessing")."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Crop, InvertibleTransform, MapTransform
from monai.utils import ensure_tuple_rep

from common.transforms.axis_resample import AxisResample

__all__ = ["NETWORK_AXES", "CropAnteriorPosteriord", "FitToGridd", "network_orientation"]

# Network axes D, H, W run to the patient's right, feet and back, whatever the scan's storage order is: a picture of
# one D index then shows the head at the top and the back at the right.
NETWORK_AXES = "RIP"

logger = logging.getLogger(__name__)


def network_orientation(affine: np.ndarray) -> np.ndarray:
    """Tell how the voxel axes of a scan correspond to the network's axes D, H, W.

    Args:
        affine: 4x4, voxel to world (RAS, mm).

    Returns:
        Integers of shape (3, 2), one row for each voxel axis: the network axis that it runs along, and 1 or -1 for
        the same or the opposite sense (nibabel's orientation transform).
    """
    own = nib.orientations.io_orientation(affine)
    return nib.orientations.ornt_transform(own, nib.orientations.axcodes2ornt(NETWORK_AXES)).astype(int)


def _spacing(affine: np.ndarray) -> np.ndarray:
    return np.sqrt((affine[:3, :3] ** 2).sum(axis=0))


class CropAnteriorPosteriord(MapTransform, InvertibleTransform):
    """Keep the central part of the anterior-posterior extent; the other two axes stay whole.

    Args:
        keys: items to crop, each a MetaTensor (C, X, Y, Z) in any orientation.
        fraction: how much of the extent is kept; 0.5 in the paper.
        center: ``image`` (the paper's centre crop) or ``body``, which centres the window on the signal of ``ref_key``
            (its brightness-weighted mean), useful where the patient lies far from the middle of the picture.
        ref_key: the item from whose geometry and signal the window is computed, so that a label is cropped alike.
        allow_missing_keys: skip keys that an item lacks.

    Raises:
        ValueError: ``fraction`` is not in (0, 1], or ``center`` is neither of the two words.

    A warning names the file when the window of ``image`` misses the body's centre.
    """

    def __init__(
        self,
        keys: KeysCollection,
        fraction: float = 0.5,
        center: str = "image",
        ref_key: str = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if not 0 < fraction <= 1:
            raise ValueError(f"crop fraction must be above 0 and at most 1, got {fraction}")
        if center not in ("image", "body"):
            raise ValueError(f"crop center must be 'image' or 'body', got {center!r}")
        self.fraction, self.center, self.ref_key = fraction, center, ref_key
        self.cropper = Crop()

    @staticmethod
    def _body_center(volume: torch.Tensor, axis: int) -> float:
        """Brightness-weighted mean position along ``axis``, in voxel edges (0..size)."""
        profile = volume.as_tensor()[0] if isinstance(volume, MetaTensor) else volume[0]
        profile = profile.float().sum(dim=[d for d in range(3) if d != axis]).double()
        profile = profile - profile.min()
        total = float(profile.sum())
        if not total > 0:
            return profile.numel() / 2
        positions = torch.arange(profile.numel(), dtype=torch.double, device=profile.device) + 0.5
        return float((profile * positions).sum() / total)

    def _window(self, ref: MetaTensor) -> tuple[int, int, int]:
        orientation = network_orientation(np.asarray(ref.affine))
        axis = int(np.flatnonzero(orientation[:, 0] == 2)[0])
        size = ref.shape[axis + 1]
        width = max(1, round(size * self.fraction))
        body = self._body_center(ref, axis)
        middle = size / 2 if self.center == "image" else body
        # Counted from the front whatever the storage order, lest an odd remainder lie once before and once behind.
        forward = orientation[axis, 1] > 0
        start = round((middle if forward else size - middle) - width / 2)
        start = min(max(start, 0), size - width)
        start = start if forward else size - width - start
        if not start <= body <= start + width:
            logger.warning(
                "%s: the crop to %.0f %% of the anterior-posterior extent misses the middle of the body; "
                "pass --crop_center body or a larger --crop_fraction",
                ref.meta.get("filename_or_obj", "scan"),
                100 * self.fraction,
            )
        return axis, start, start + width

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        d = dict(data)
        axis, start, end = self._window(d[self.ref_key])
        for key in self.key_iterator(d):
            slices = [slice(None)] * 3
            slices[axis] = slice(start, end)
            d[key] = self.cropper(d[key], tuple(slices))
        return d

    def inverse(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, torch.Tensor]:
        """Put the kept part back where it was; zero elsewhere."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.cropper.inverse(d[key])
        return d


class FitToGridd(MapTransform, InvertibleTransform):
    """Resample a scan of any orientation into the network's grid, in one interpolation.

    Axes become D (to the right), H (to the feet), W (to the back). In-plane, one factor brings the whole picture into
    H x W with its aspect kept (in mm), centred, the rest padded with zeros. Along D, more slices than the grid has are
    resampled to its number, fewer are centred and padded. A picture that shrinks in-plane by more than half is smoothed
    first, lest fine detail alias.

    The inverse brings predictions (probabilities, any number of channels) back to the grid that the scan came from.

    Args:
        keys: items, each a MetaTensor (C, X, Y, Z).
        spatial_size: the grid, (D, H, W); (18, 256, 128) in the paper.
        mode: interpolation for each key, ``bilinear`` or ``nearest``.
        allow_missing_keys: skip keys that an item lacks.
    """

    def __init__(
        self,
        keys: KeysCollection,
        spatial_size: Sequence[int],
        mode: str | Sequence[str] = "bilinear",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.spatial_size = tuple(int(n) for n in spatial_size)
        self.mode = ensure_tuple_rep(mode, len(self.keys))
        self.resampler = AxisResample()

    def grid_affine(self, affine: np.ndarray, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Place the grid in the world.

        Args:
            affine: 4x4 voxel-to-world matrix of the scan.
            shape: its size in voxels, (X, Y, Z).

        Returns:
            The grid's 4x4 voxel-to-world matrix, and its steps along D, H, W in voxels of the scan.
        """
        orientation = network_orientation(affine)
        to_scan = nib.orientations.inv_ornt_aff(orientation, shape)
        canonical = affine @ to_scan
        size = np.empty(3)
        size[orientation[:, 0]] = shape
        spacing = _spacing(canonical)
        grid = np.array(self.spatial_size, dtype=float)
        step = np.empty(3)
        step[0] = max(size[0] / grid[0], 1.0)
        pixel = max(size[1] * spacing[1] / grid[1], size[2] * spacing[2] / grid[2])
        step[1:] = pixel / spacing[1:]
        placed = np.diag([*step, 1.0])
        # Voxel centres lie at +0.5 of voxel edges: align the middle of the grid with the middle of the scan.
        offset = size / 2 - 0.5 - step * (grid / 2 - 0.5)
        # Where a step is one voxel, an odd remainder would put the grid between the scan's voxels, which blurs an image
        # and doubles or drops voxels of a label: stay on the scan's own voxels, half a voxel off the middle.
        placed[:3, 3] = np.where(np.isclose(step, 1), np.floor(offset + 1e-6), offset)
        return canonical @ placed, step

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        d = dict(data)
        for key, mode in self.key_iterator(d, self.mode):
            volume = d[key]
            affine = np.asarray(volume.affine, dtype=float)
            grid_affine, step = self.grid_affine(affine, volume.shape[1:])
            sigma = np.zeros(3)
            if mode != "nearest" and step[1:].max() > 2:
                # (factor - 1) / 2 along the shrinking axes, none along D, in the scan's own order of axes
                sigma = np.concatenate([[0.0], np.maximum(step[1:] - 1, 0) / 2])[network_orientation(affine)[:, 0]]
            d[key] = self.resampler(volume, grid_affine, self.spatial_size, mode, sigma.tolist())
        return d

    def inverse(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, torch.Tensor]:
        """Bring what lies on the grid back to the scan's own voxels."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.resampler.inverse(d[key])
        return d

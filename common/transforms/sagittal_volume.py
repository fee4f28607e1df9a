"""From a scan's own grid to sagittal slices of one spacing and one range of intensities, and back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import CropForegroundd, InvertibleTransform, MapTransform
from monai.utils import ensure_tuple_rep

from common.data.volume_checks import voxel_sizes
from common.errors import InputError
from common.transforms.axis_resample import AxisResample

__all__ = ["SAGITTAL_AXES", "CropToSignald", "NormalizeSignald", "ResampleSagittald"]

# The axes run to the patient's back, feet and right, whatever the scan's storage order is: the last one counts slices.
SAGITTAL_AXES = "PIR"

_WHOLE = 30_000  # a margin beyond every side of a volume, within the 16 bits that MONAI has for it


def _file_of(volume: torch.Tensor) -> str:
    return str(getattr(volume, "meta", {}).get("filename_or_obj", "scan"))


class ResampleSagittald(MapTransform, InvertibleTransform):
    """Bring a scan of any orientation to one spacing, axes A-P, S-I, slice (``SAGITTAL_AXES``), in one interpolation.

    The extent stays, as in the program of SSHSNet's authors: the new size is ``round(size * spacing / new spacing)``,
    so that the spacing may differ from the wanted one by half a voxel over the whole extent, and slices that are about
    as far apart as wanted stay themselves. An axis that shrinks by a factor f is smoothed before by a Gaussian of
    (f - 1) / 2 voxels, lest fine detail alias; label maps (``nearest``) are not.

    The inverse brings predictions (any number of channels) back to the grid that the scan came from, also within
    :class:`common.transforms.InvertToLabelsd`.

    Args:
        keys: items, each a MetaTensor (C, X, Y, Z) in any orientation.
        spacing: of the axes A-P, S-I, slice, in mm; None where an axis keeps its own. By default that of SSHSNet's
            second stage; where slices are not that far apart, a label map is another one after the way there and back.
        mode: interpolation for each key, ``bilinear`` (linear along each axis) or ``nearest``.
        allow_missing_keys: skip keys that an item lacks.

    Raises:
        InputError: the spacing is not three positive numbers or None.
    """

    def __init__(
        self,
        keys: KeysCollection,
        spacing: Sequence[float | None] = (0.34482759, 0.34482759, 4.4000001),
        mode: str | Sequence[str] = "bilinear",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(spacing) != 3 or not all(width is None or (np.isfinite(width) and width > 0) for width in spacing):
            raise InputError(
                f"spacing={list(spacing)}", "is not three positive numbers or null", "pass [A-P, S-I, slice] in mm"
            )
        self.spacing = tuple(spacing)
        self.mode = ensure_tuple_rep(mode, len(self.keys))
        self.resampler = AxisResample()

    def grid(self, affine: np.ndarray, shape: Sequence[int]) -> tuple[np.ndarray, tuple[int, ...], np.ndarray]:
        """Place the grid in the world.

        Args:
            affine: 4x4 voxel-to-world matrix of the scan.
            shape: its size in voxels, (X, Y, Z).

        Returns:
            The grid's 4x4 voxel-to-world matrix, its size, and its steps along the scan's own axes, in voxels of the
            scan.
        """
        orientation = nib.orientations.ornt_transform(
            nib.orientations.io_orientation(affine), nib.orientations.axcodes2ornt(SAGITTAL_AXES)
        )
        axes = orientation[:, 0].astype(int)
        canonical = affine @ nib.orientations.inv_ornt_aff(orientation, shape)
        size = np.empty(3)
        size[axes] = shape
        own = voxel_sizes(canonical)
        wanted = np.array([float(b if a is None else a) for a, b in zip(self.spacing, own, strict=True)])
        new_size = np.maximum(np.round(size * own / wanted), 1)
        step = size / new_size
        placed = np.diag([*step, 1.0])
        placed[:3, 3] = step / 2 - 0.5  # voxel edges of both grids meet at the ends, centres lie at +0.5
        return canonical @ placed, tuple(int(n) for n in new_size), step[axes]

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        d = dict(data)
        for key, mode in self.key_iterator(d, self.mode):
            affine, size, step = self.grid(np.asarray(d[key].affine, dtype=float), d[key].shape[1:])
            sigma = np.zeros(3) if mode == "nearest" else np.maximum(step - 1, 0) / 2
            d[key] = self.resampler(d[key], affine, size, mode, sigma.tolist())
        return d

    def inverse(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, torch.Tensor]:
        """Bring what lies on the grid back to the scan's own voxels."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.resampler.inverse(d[key])
        return d


def _is_signal(volume: torch.Tensor) -> torch.Tensor:
    return volume != 0


class CropToSignald(CropForegroundd):
    """Crop the first axis to the range of voxels that are not 0 in one item; the other two axes stay whole.

    SSHSNet's authors crop their volumes so; a prediction is put back by the inverse, with 0 around it.

    Args:
        keys: items to crop, each a MetaTensor (C, A-P, S-I, slice).
        source_key: the item whose voxels decide.
        allow_missing_keys: skip keys that an item lacks.

    Raises:
        InputError: all voxels are 0; the message names the file.
    """

    def __init__(self, keys: KeysCollection, source_key: str = "image", allow_missing_keys: bool = False) -> None:
        super().__init__(
            keys,
            source_key,
            select_fn=_is_signal,
            margin=[0, _WHOLE, _WHOLE],
            allow_smaller=True,
            start_coord_key=None,
            end_coord_key=None,
            allow_missing_keys=allow_missing_keys,
        )

    def __call__(self, data: Mapping[Hashable, torch.Tensor], lazy: bool | None = None) -> dict[Hashable, torch.Tensor]:
        if not bool((data[self.source_key] != 0).any()):
            raise InputError(_file_of(data[self.source_key]), "is 0 in every voxel", "pass a scan with a picture in it")
        return super().__call__(data, lazy)


class NormalizeSignald(MapTransform):
    """Clip the voxels that are not 0 to two of their percentiles, and bring them to mean 0 and standard deviation 1.

    Voxels of 0 count nowhere and stay 0, as in the program of SSHSNet's authors (MONAI's ``ClipIntensityPercentiles``
    counts all voxels). Where all others are alike, they become 0.

    Args:
        keys: items, each (C, ...).
        lower: the lower percentile, 0 to 100.
        upper: the upper one.
        allow_missing_keys: skip keys that an item lacks.

    Raises:
        InputError: a value is not finite; the message names the file.
        ValueError: the percentiles are not 0 <= lower < upper <= 100.
    """

    def __init__(
        self, keys: KeysCollection, lower: float = 0.5, upper: float = 99.5, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if not 0 <= lower < upper <= 100:
            raise ValueError(f"percentiles must be 0 <= lower < upper <= 100, got {lower} and {upper}")
        self.percentiles = (float(lower), float(upper))

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        d = dict(data)
        for key in self.key_iterator(d):
            values = d[key].as_tensor() if isinstance(d[key], MetaTensor) else d[key]
            if not bool(torch.isfinite(values).all()):
                raise InputError(_file_of(d[key]), "has voxels that are NaN or infinite", "re-export the scan")
            signal = values != 0
            if bool(signal.any()):
                seen = values[signal].float()
                low, high = (float(value) for value in np.percentile(seen.cpu().numpy(), self.percentiles))
                std, mean = torch.std_mean(seen.clamp_(low, high), correction=0)
                normalized = (d[key].clamp(low, high) - mean) / (std if std > 0 else 1)
                d[key] = torch.where(signal, normalized, 0.0)
        return d

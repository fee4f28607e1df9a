"""Resampling between two grids whose axes are parallel: one small matrix for each axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.data import MetaTensor
from monai.networks.layers import gaussian_1d
from monai.transforms import InvertibleTransform
from monai.utils import TraceKeys

__all__ = ["AxisResample"]

_PARALLEL = 1e-4  # voxels that a wrong axis may shift the far end of a grid
_CHUNK = 2**25  # numbers that an argmax holds at a time: 128 MiB


class AxisResample(InvertibleTransform):
    """Resample a MetaTensor onto a grid whose axes are parallel to its own, in any order and sense.

    What MONAI's ``SpatialResample`` computes with ``align_corners=False`` and ``padding_mode="zeros"``, axis by axis: a
    linear interpolation of C x X x Y x Z numbers is three products with small matrices, several times faster than
    looking up eight neighbours of each voxel.

    Modes:
        * ``bilinear``: linear along each axis (MONAI's word for it in 3D, too).
        * ``nearest``: where a voxel lies right between two, the one on the side of the smaller output index counts,
          so that a label map does not depend on its storage order or on rounding.
        * ``argmax``: the channel of the largest linearly interpolated score, as uint8 with one channel; 0 outside.
          It needs no memory for the interpolated scores, and does not look where channel 0 wins for certain.
    """

    def __call__(
        self,
        img: MetaTensor,
        dst_affine: np.ndarray,
        spatial_size: Sequence[int],
        mode: str = "bilinear",
        sigma: Sequence[float] = (0.0, 0.0, 0.0),
    ) -> MetaTensor:
        """Resample.

        Args:
            img: (C, X, Y, Z).
            dst_affine: voxel-to-world matrix of the new grid, 4x4.
            spatial_size: its size.
            mode: see above.
            sigma: standard deviation of the Gaussian by which each axis of ``img`` is smoothed before, in its voxels,
                as MONAI's ``GaussianSmooth`` does it; it is not undone by the inverse.

        Returns:
            float32 (C, ...) on the new grid, or uint8 (1, ...) for ``argmax``.

        Raises:
            ValueError: the grids' axes are not parallel, or the mode is not known.
        """
        if mode not in ("bilinear", "nearest", "argmax"):
            raise ValueError(f"resampling mode must be bilinear, nearest or argmax, got {mode!r}")
        src_affine = np.asarray(img.affine, dtype=float)
        size = tuple(int(n) for n in spatial_size)
        to_source = np.linalg.solve(src_affine, np.asarray(dst_affine, dtype=float))
        axes = _parallel_axes(to_source, size)
        # matrices[i] brings source axis i onto the output axis that it is parallel to
        matrices = [
            _interpolation(
                to_source[source, axis], to_source[source, 3], img.shape[source + 1], size[axis], mode == "nearest"
            )
            for source, axis in enumerate(axes)
        ]
        matrices = [
            (matrix @ _smoothing(width, matrix.shape[1]) if width > 0 else matrix).to(img.device)
            for matrix, width in zip(matrices, sigma, strict=True)
        ]
        meta = self.track_transform_meta(
            img,
            sp_size=size,
            affine=torch.from_numpy(to_source),
            extra_info={"mode": mode, "src_affine": src_affine},
            orig_size=tuple(img.shape[1:]),
            transform_info=self.get_transform_info(),
        )
        values = img.as_tensor().float()
        values = _largest(values, matrices)[None] if mode == "argmax" else _resampled(values, matrices)
        # source axis i goes to place axes[i]
        values = values.permute(0, *(1 + int(source) for source in np.argsort(axes))).contiguous()
        return MetaTensor(values).copy_meta_from(meta)

    def inverse(self, data: MetaTensor) -> MetaTensor:
        """Bring what lies on the new grid back to the one that it came from, in the mode that the trace names."""
        transform = self.pop_transform(data)
        info = transform[TraceKeys.EXTRA_INFO]
        with self.trace_transform(False):
            return self(data, info["src_affine"], transform[TraceKeys.ORIG_SIZE], info["mode"])


def _parallel_axes(to_source: np.ndarray, size: Sequence[int]) -> list[int]:
    """Return for each source axis the output axis that runs along it.

    Args:
        to_source: 4x4, output voxels to source voxels.
        size: of the output.
    """
    shifts = np.abs(to_source[:3, :3]) * np.asarray(size)  # how far each output axis goes along each source axis
    axes = [int(axis) for axis in shifts.argmax(axis=1)]
    rest = shifts.copy()
    rest[range(3), axes] = 0
    if sorted(axes) != [0, 1, 2] or rest.max() > _PARALLEL:
        raise ValueError("the axes of the two grids are not parallel")
    return axes


def _interpolation(step: float, offset: float, size: int, new_size: int, nearest: bool) -> torch.Tensor:
    """Return the (new_size, size) matrix that interpolates at ``step * i + offset``; rows outside are zero."""
    place = step * np.arange(new_size) + offset
    matrix = np.zeros((new_size, size), dtype=np.float32)
    if nearest:
        sense = np.sign(step)
        neighbours = [(sense * np.ceil(sense * place - 0.5 - 1e-4), np.ones(new_size))]
    else:
        lower = np.floor(place)
        neighbours = [(lower, 1 - (place - lower)), (lower + 1, place - lower)]
    for index, weight in neighbours:
        inside = (index >= 0) & (index < size)
        matrix[np.flatnonzero(inside), index[inside].astype(int)] += weight[inside]
    return torch.from_numpy(matrix)


def _smoothing(sigma: float, size: int) -> torch.Tensor:
    """Return the (size, size) matrix that convolves with a Gaussian; outside there is zero."""
    kernel = gaussian_1d(torch.tensor(float(sigma)), truncated=4.0, approx="erf")
    half = len(kernel) // 2
    padded = torch.nn.functional.pad(torch.eye(size), (half, half))
    return torch.nn.functional.conv1d(padded[:, None], kernel[None, None])[:, 0].T


def _along(values: torch.Tensor, matrix: torch.Tensor, axis: int) -> torch.Tensor:
    """Multiply one axis (0..2) of (C, X, Y, Z) by a matrix."""
    if axis == 2:
        return values @ matrix.T
    if axis == 1:
        return matrix @ values
    return (matrix @ values.flatten(2)).unflatten(2, values.shape[2:])


def _resampled(values: torch.Tensor, matrices: Sequence[torch.Tensor]) -> torch.Tensor:
    # What shrinks most comes first, so that the others have least to do.
    for axis in sorted(range(3), key=lambda axis: matrices[axis].shape[0] / matrices[axis].shape[1]):
        values = _along(values, matrices[axis], axis)
    return values


def _largest(scores: torch.Tensor, matrices: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the channel of the largest interpolated score, in the source's order of axes.

    Where channel 0 has the largest score at all neighbours, it has so between them: weights are not negative. So only
    the box around the rest is interpolated.
    """
    labels = scores.new_zeros([len(matrix) for matrix in matrices], dtype=torch.uint8)
    contested = scores[1:].amax(dim=0) >= scores[0] if len(scores) > 1 else torch.zeros_like(scores[0], dtype=bool)
    if not contested.any():
        return labels
    columns, rows = [], []
    for axis, matrix in enumerate(matrices):
        where = contested.any(dim=2).any(dim=1) if axis == 0 else contested.any(dim=0).any(dim=2 - axis)
        found = torch.nonzero(where)
        column = slice(max(int(found[0]) - 1, 0), int(found[-1]) + 2)
        touched = torch.nonzero(matrix[:, column].any(dim=1))
        if not len(touched):
            return labels
        columns.append(column)
        rows.append(slice(int(touched[0]), int(touched[-1]) + 1))
    scores = scores[(slice(None), *columns)]
    first, *others = (matrix[row, column] for matrix, row, column in zip(matrices, rows, columns, strict=True))
    numbers = len(scores) * others[0].shape[0] * others[1].shape[0]
    chunks = first.split(max(1, _CHUNK // numbers))
    # max() finds the first of the largest as argmax() does, in a quarter of the time on a CPU
    found = [_resampled(scores, (chunk, *others)).max(dim=0).indices.to(torch.uint8) for chunk in chunks]
    labels[tuple(rows)] = torch.cat(found)
    return labels

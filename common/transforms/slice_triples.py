"""Slices with their neighbours as channels."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable

from common.transforms.random_places import check_fits, random_start, random_voxel

__all__ = ["RandSliceTripled", "neighbour_slices"]


def neighbour_slices(first: int, count: int, depth: int) -> list[int]:
    """Return the indices of ``count`` slices, one before and one behind; beyond the volume's ends, its edge slice.

    Args:
        first: the first of the slices.
        count: how many slices have neighbours.
        depth: how many slices the volume has.
    """
    return [min(max(index, 0), depth - 1) for index in range(first - 1, first + count + 1)]


class RandSliceTripled(Randomizable, MapTransform):
    """Cut a random part out of a random slice and its two neighbours: what SSHSNet's first stage is trained on.

    With a label map, the part contains a random voxel of the foreground, in one of the three slices, at a random place;
    without (unlabelled scans, and label maps without foreground) every part is as likely. At the ends of the volume
    the edge slice is its own neighbour.

    Args:
        image_key: the volume (1, H, W, D); it becomes a tensor (3, h, w): the previous, the centre and the next slice.
        label_key: the label map, likewise; it becomes (1, h, w), that of the centre slice. None: there is none.
        spatial_size: (h, w).

    Raises:
        ValueError: the volume is smaller than ``spatial_size``.
    """

    def __init__(
        self, image_key: str = "image", label_key: str | None = "label", spatial_size: Sequence[int] = (256, 512)
    ) -> None:
        MapTransform.__init__(self, [key for key in (image_key, label_key) if key is not None])
        self.image_key, self.label_key = image_key, label_key
        self.spatial_size = (int(spatial_size[0]), int(spatial_size[1]))
        self._start, self._centre = (0, 0), 0

    def randomize(self, size: Sequence[int], label: torch.Tensor | None = None) -> None:
        """Draw the part.

        Args:
            size: (H, W, D) of the volume.
            label: its label map, same size; None: there is none.
        """
        voxel = None if label is None else random_voxel(self.R, label)
        at = (None,) * 3 if voxel is None else voxel
        self._start = tuple(
            random_start(self.R, *sides) for sides in zip(size[:2], self.spatial_size, at[:2], strict=True)
        )
        if at[2] is None:
            self._centre = int(self.R.randint(size[2]))
        else:  # the voxel lies in the previous, the centre or the next slice
            self._centre = min(max(int(self.R.randint(at[2] - 1, at[2] + 2)), 0), size[2] - 1)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        volumes = {key: _plain(d[key])[0] for key in self.keys}
        size = volumes[self.image_key].shape
        check_fits(size[:2], self.spatial_size)
        self.randomize(size, volumes.get(self.label_key))
        rows, columns = (slice(a, a + n) for a, n in zip(self._start, self.spatial_size, strict=True))
        around = neighbour_slices(self._centre, 1, size[2])
        d[self.image_key] = volumes[self.image_key][rows, columns][..., around].permute(2, 0, 1).float().contiguous()
        if self.label_key is not None:
            d[self.label_key] = volumes[self.label_key][rows, columns, self._centre][None].float()
        return d


def _plain(volume: torch.Tensor) -> torch.Tensor:
    return volume.as_tensor() if isinstance(volume, MetaTensor) else volume

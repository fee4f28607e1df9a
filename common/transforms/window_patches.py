"""Patches for a network in 3D, with the slices of their surroundings for the networks in 2D that support it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable

from common.networks.slice_context import halve_in_plane, slice_triples
from common.transforms.random_places import check_fits, random_start, random_voxel
from common.transforms.slice_triples import neighbour_slices

__all__ = ["RandWindowPatchesd"]

# Starts in voxels of the full resolution. The networks in 2D see half of it, and their feature maps have a quarter of
# that: at multiples of 8 a crop of the maps begins exactly where the patch does.
_MULTIPLE = 8
_MARGIN = 4  # even, and more voxels than halving looks beyond the two that it makes one of


class RandWindowPatchesd(Randomizable, MapTransform):
    """Draw a window of a volume, and class-balanced patches of the window: what SSHSNet's second stage is trained on.

    The window contains a random voxel of the foreground at a random place; without foreground, every window is as
    likely. For each patch a class is drawn, each with the same probability; the patch contains a random voxel of it at
    a random place, or one of any class where that one is not in the window. All starts are multiples of 8 in-plane.

    Args:
        image_key: the volume (1, H, W, D); it becomes the patches, (K, 1, h, w, d).
        label_key: the label map in channels, likewise.
        window: size of the window.
        patch: size of the patches; as many slices as the window has.
        num_patches: K.
        num_classes: number of the network's channels, the background included.
        stack_key: where the window's slices go: at half the in-plane resolution, each with its neighbours as channels,
            (slices, 3, window height / 2, window width / 2). Neighbours are the true ones also where they lie outside
            of the window; at the ends of the volume the edge slice is its own neighbour.
        boxes_key: where the patches' places in the window go: (K, 4) of int64, first and end of the rows, first and end
            of the columns.

    Raises:
        ValueError: window or patch do not fit, or are no multiples of 8 in-plane, or the volume is not.

    The volume is halved as a whole (:func:`common.networks.slice_context.halve_in_plane`): what lies beyond the window
    counts at its border.
    """

    def __init__(
        self,
        image_key: str = "image",
        label_key: str = "label",
        window: Sequence[int] = (512, 1024, 12),
        patch: Sequence[int] = (192, 192, 12),
        num_patches: int = 4,
        num_classes: int = 20,
        stack_key: str = "stack",
        boxes_key: str = "boxes",
    ) -> None:
        MapTransform.__init__(self, (image_key, label_key))
        self.image_key, self.label_key, self.stack_key, self.boxes_key = image_key, label_key, stack_key, boxes_key
        self.window, self.patch = (tuple(int(side) for side in size) for size in (window, patch))
        self.num_patches, self.num_classes = int(num_patches), int(num_classes)
        if len(self.window) != 3 or len(self.patch) != 3 or self.window[2] != self.patch[2]:
            raise ValueError(f"window and patch have as many slices as each other, got {self.window} and {self.patch}")
        check_fits(self.window, self.patch, _MULTIPLE, "the window")
        if self.num_patches < 1 or self.num_classes < 2:
            raise ValueError(f"expected patches and classes, got {self.num_patches} and {self.num_classes}")
        self._start, self._patches = (0, 0, 0), np.zeros((0, 2), dtype=int)

    def randomize(self, label: torch.Tensor) -> None:
        """Draw the window and the patches.

        Args:
            label: (H, W, D).
        """
        voxel = random_voxel(self.R, label) or (None,) * 3
        self._start = tuple(
            random_start(self.R, size, side, at, multiple)
            for size, side, at, multiple in zip(label.shape, self.window, voxel, (_MULTIPLE, _MULTIPLE, 1), strict=True)
        )
        inside = label[_box(self._start, self.window)]
        foreground = torch.nonzero(inside)
        classes = inside[tuple(foreground.T)]
        self._patches = np.array([self._patch_start(foreground, classes) for _ in range(self.num_patches)])

    def _patch_start(self, foreground: torch.Tensor, classes: torch.Tensor) -> tuple[int, int]:
        """Draw where a patch begins in the window.

        Args:
            foreground: (N, 3), the window's voxels of any class.
            classes: (N,), their classes.
        """
        wanted = int(self.R.randint(1, self.num_classes))
        candidates = torch.nonzero(classes == wanted)[:, 0]
        count = len(candidates) or len(foreground)
        at: tuple[int | None, ...] = (None, None)
        if count:
            chosen = int(self.R.randint(count))
            at = tuple(foreground[candidates[chosen] if len(candidates) else chosen].tolist()[:2])
        rows, columns = (
            random_start(self.R, size, side, position, _MULTIPLE)
            for size, side, position in zip(self.window[:2], self.patch[:2], at, strict=True)
        )
        return rows, columns

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        image, label = (
            (d[key].as_tensor() if isinstance(d[key], MetaTensor) else d[key])[0]
            for key in (self.image_key, self.label_key)
        )
        check_fits(image.shape, self.window, _MULTIPLE)
        self.randomize(label)
        places = [(self._start[0] + row, self._start[1] + column, self._start[2]) for row, column in self._patches]
        for key, volume in ((self.image_key, image), (self.label_key, label)):
            d[key] = torch.stack([volume[_box(place, self.patch)][None] for place in places]).float()
        d[self.stack_key] = self._stack(image)
        ends = self._patches + self.patch[:2]
        boxes = np.stack([self._patches[:, 0], ends[:, 0], self._patches[:, 1], ends[:, 1]], axis=1)
        d[self.boxes_key] = torch.from_numpy(boxes).long()
        return d

    def _stack(self, image: torch.Tensor) -> torch.Tensor:
        """Return the slices of the window with their neighbours, at half the resolution of (H, W, D)."""
        # Only what the window's voxels depend on is halved.
        low = [max(start - _MARGIN, 0) for start in self._start[:2]]
        high = [
            min(start + side + _MARGIN, size)
            for start, side, size in zip(self._start[:2], self.window[:2], image.shape[:2], strict=True)
        ]
        slices = neighbour_slices(self._start[2], self.window[2], image.shape[2])
        halved = halve_in_plane(image[low[0] : high[0], low[1] : high[1]][..., slices][None, None].float())
        first = [(start - begin) // 2 for start, begin in zip(self._start[:2], low, strict=True)]
        height, width = (side // 2 for side in self.window[:2])
        halved = halved[:, :, first[0] : first[0] + height, first[1] : first[1] + width]
        return slice_triples(halved[..., 1:-1], before=halved[..., :1], after=halved[..., -1:])[0].contiguous()


def _box(start: Sequence[int], size: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(int(a), int(a) + n) for a, n in zip(start, size, strict=True))

"""Random changes of volumes, for SSHSNet's second stage."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandGaussianNoised, RandomizableTransform

from common.transforms.similarity import similarity

__all__ = ["RandAugmentVolumed"]


class RandAugmentVolumed(RandomizableTransform, MapTransform):
    """Noise, magnification about the centre and rotation in-plane, of a volume and its label map.

    Kinds, order and probabilities are those of SSHSNet's authors. Magnification and rotation are one interpolation
    here, cubic in-plane and linear between slices (nearest for the label map), 0 beyond the border. Their elastic
    deformation is left out: with the parameters that they gave it, it moves voxels by 0.02 voxels.

    Args:
        image_key: (1, H, W, D), floating point.
        label_key: likewise.
        prob: with which probability anything is done; each of the following then has its own.
        noise_prob: of noise.
        noise_std: its largest standard deviation.
        zoom_prob: of magnification.
        zoom: what is seen then, at least, as a share of each axis; the magnification is 1 by a number drawn from
            ``zoom`` to 1.
        rotate_prob: of rotation.
        degrees: the largest angle, either way.

    Raises:
        ValueError: ``zoom`` is not in (0, 1].
    """

    def __init__(
        self,
        image_key: str = "image",
        label_key: str = "label",
        prob: float = 0.6,
        noise_prob: float = 0.5,
        noise_std: float = 0.1,
        zoom_prob: float = 0.5,
        zoom: float = 0.7,
        rotate_prob: float = 0.5,
        degrees: float = 90.0,
    ) -> None:
        MapTransform.__init__(self, (image_key, label_key))
        RandomizableTransform.__init__(self, prob)
        if not 0 < zoom <= 1:
            raise ValueError(f"zoom must be above 0 and at most 1, got {zoom}")
        self.noise = RandGaussianNoised(image_key, noise_prob, std=noise_std)
        self.zoom_prob, self.zoom = float(zoom_prob), float(zoom)
        self.rotate_prob, self.radians = float(rotate_prob), math.radians(degrees)
        self._zoom, self._angle = 1.0, 0.0

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandAugmentVolumed:
        """Make all draws depend on a seed or state."""
        super().set_random_state(seed, state)
        self.noise.set_random_state(state=self.R)
        return self

    def randomize(self, data: Any = None) -> None:
        """Draw whether, and how."""
        super().randomize(data)
        self._zoom, self._angle = 1.0, 0.0
        if self._do_transform and self.R.rand() < self.zoom_prob:
            self._zoom = 1 / self.R.uniform(self.zoom, 1)
        if self._do_transform and self.R.rand() < self.rotate_prob:
            self._angle = self.R.uniform(-self.radians, self.radians)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        d = dict(data)
        self.randomize()
        if not self._do_transform:
            return d
        d = self.noise(d)
        if self._zoom != 1 or self._angle:
            for key, mode in self.key_iterator(d, ("bicubic", "nearest")):
                d[key] = self._moved(d[key], mode)
        return d

    def _moved(self, volume: torch.Tensor, mode: str) -> torch.Tensor:
        plain = volume.as_tensor() if isinstance(volume, MetaTensor) else volume
        slices = plain[0].permute(2, 0, 1).float()  # slices as channels, which move alike
        slices = _magnified(slices, self._zoom, nearest=mode == "nearest")
        moved = similarity(slices, self._angle, self._zoom, mode=mode)
        moved = moved.as_tensor() if isinstance(moved, MetaTensor) else moved
        moved = moved.permute(1, 2, 0)[None].to(plain.dtype)
        return MetaTensor(moved).copy_meta_from(volume) if isinstance(volume, MetaTensor) else moved


def _magnified(slices: torch.Tensor, zoom: float, nearest: bool) -> torch.Tensor:
    """Magnify the first axis about its centre."""
    if zoom == 1:
        return slices
    middle = (len(slices) - 1) / 2
    place = (torch.arange(len(slices), dtype=torch.float32) - middle) / zoom + middle
    if nearest:
        return slices[(place + 0.5).floor().long()]
    lower = place.floor().long()
    weight = (place - lower)[:, None, None]
    return slices[lower] * (1 - weight) + slices[(lower + 1).clamp(max=len(slices) - 1)] * weight

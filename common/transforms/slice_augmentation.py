"""Random changes of slices with their neighbours, for SSHSNet's first stage."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import (
    Compose,
    Flipd,
    Identityd,
    MapTransform,
    OneOf,
    RandGaussianNoised,
    RandGaussianSharpend,
    RandGaussianSmoothd,
    RandGridDistortiond,
    RandomizableTransform,
)
from monai.utils import ensure_tuple_rep

from common.transforms.similarity import similarity

__all__ = ["RandAugmentSliced", "RandSimilarityd"]


class RandSimilarityd(RandomizableTransform, MapTransform):
    """Rotate, magnify and shift at random, with one draw for all keys and channels, in one interpolation.

    MONAI's ``RandAffined`` draws a scale for each axis, which changes shapes.

    Args:
        keys: (C, H, W), all of one size.
        degrees: the largest angle, either way.
        zoom: smallest and largest magnification.
        shift: the largest shift, either way, as a share of the side.
        prob: with which probability anything is done.
        mode: interpolation for each key, ``bilinear``, ``bicubic`` or ``nearest``.
        padding_mode: what lies beyond the border, ``zeros``, ``border`` or ``reflection``.
        allow_missing_keys: skip keys that an item lacks.

    Raises:
        ValueError: a magnification is not positive.
    """

    def __init__(
        self,
        keys: KeysCollection,
        degrees: float = 0.0,
        zoom: Sequence[float] = (1.0, 1.0),
        shift: float = 0.0,
        prob: float = 0.5,
        mode: str | Sequence[str] = "bilinear",
        padding_mode: str = "zeros",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.zoom = (float(zoom[0]), float(zoom[1]))
        if min(self.zoom) <= 0:
            raise ValueError(f"a magnification is above 0, got {zoom}")
        self.radians, self.shift = math.radians(degrees), float(shift)
        self.mode, self.padding_mode = ensure_tuple_rep(mode, len(self.keys)), padding_mode
        self._angle, self._zoom, self._shift = 0.0, 1.0, np.zeros(2)

    def randomize(self, data: Any = None) -> None:
        """Draw whether, and how."""
        super().randomize(data)
        if self._do_transform:
            self._angle = self.R.uniform(-self.radians, self.radians)
            self._zoom = self.R.uniform(*self.zoom)
            self._shift = self.R.uniform(-self.shift, self.shift, size=2)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        d = dict(data)
        self.randomize()
        if self._do_transform:
            for key, mode in self.key_iterator(d, self.mode):
                shift = self._shift * d[key].shape[1:]
                d[key] = similarity(d[key], self._angle, self._zoom, shift, mode, self.padding_mode)
        return d


class RandAugmentSliced(RandomizableTransform, MapTransform):
    """Flip, noise, blur, rotation with scale and shift, distortion, sharpening: all channels and the label map alike.

    The kinds, their order and probabilities are those of SSHSNet's authors, with four differences: noise is added
    without clipping and has a standard deviation of at most ``noise_std`` (theirs clips z-scores to 0..1 in some
    versions of its library, and has a variance of up to 3); a Gaussian of its own width along each axis is in the place
    of motion blur and box blur; grid distortion does for optical distortion, too; sharpening for embossing, too.

    Args:
        image_key: (channels, H, W).
        label_key: (1, H, W), interpolated by nearest neighbours; an item may lack it.
        prob: with which probability anything is done; each of the following then has its own.
        flip_prob: of a flip.
        flip_axes: along which axes; a flip is along one of them or, if there are two, along both.
        noise_prob: of noise.
        noise_std: its largest standard deviation.
        blur_prob: of blur.
        blur_sigma: its smallest and largest standard deviation along an axis, in pixels.
        similarity_prob: of rotation, scale and shift, whose border is a reflection.
        degrees: the largest angle, either way.
        scale: the largest change of size, either way, as a share.
        shift: the largest shift, either way, as a share of the side.
        distortion_prob: of distortion.
        distortion: the largest change of the width of one of the 5 x 5 cells of the grid, as a share.
        sharpen_prob: of sharpening.
    """

    def __init__(
        self,
        image_key: str = "image",
        label_key: str = "label",
        prob: float = 0.5,
        flip_prob: float = 0.3,
        flip_axes: Sequence[int] = (0, 1),
        noise_prob: float = 0.4,
        noise_std: float = 0.3,
        blur_prob: float = 0.3,
        blur_sigma: Sequence[float] = (0.25, 1.5),
        similarity_prob: float = 0.5,
        degrees: float = 45.0,
        scale: float = 0.2,
        shift: float = 0.0625,
        distortion_prob: float = 0.3,
        distortion: float = 0.3,
        sharpen_prob: float = 0.3,
    ) -> None:
        both, blur = (image_key, label_key), (float(blur_sigma[0]), float(blur_sigma[1]))
        MapTransform.__init__(self, both, allow_missing_keys=True)
        RandomizableTransform.__init__(self, prob)
        modes = {"mode": ("bilinear", "nearest"), "padding_mode": "reflection", "allow_missing_keys": True}
        self.changes = Compose(
            [
                _rand_flip(both, flip_prob, flip_axes),
                RandGaussianNoised(image_key, noise_prob, std=noise_std),
                RandGaussianSmoothd(image_key, blur, blur, prob=blur_prob),
                RandSimilarityd(both, degrees, (1 - scale, 1 + scale), shift, similarity_prob, **modes),
                RandGridDistortiond(both, num_cells=5, prob=distortion_prob, distort_limit=distortion, **modes),
                RandGaussianSharpend(image_key, alpha=(0.5, 3.0), prob=sharpen_prob),
            ]
        )

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandAugmentSliced:
        """Make all draws depend on a seed or state."""
        super().set_random_state(seed, state)
        self.changes.set_random_state(state=self.R)
        return self

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        d = dict(data)
        self.randomize(None)
        return self.changes(d) if self._do_transform else d


def _rand_flip(keys: Sequence[str], prob: float, axes: Sequence[int]) -> OneOf:
    """Return a flip along one of the axes, or along both, each as likely."""
    ways = [[int(axis)] for axis in axes] + ([list(axes)] if len(axes) > 1 else [])
    flips = [Flipd(keys, way, allow_missing_keys=True) for way in ways]
    return OneOf(
        [Identityd(keys, allow_missing_keys=True), *flips],
        weights=[1 - prob if flips else 1.0, *[prob / max(len(flips), 1)] * len(flips)],
    )

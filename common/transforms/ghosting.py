"""Ghosts, as a patient's periodic motion leaves them in MR, for what MONAI has no transform."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_to_dst_type

__all__ = ["RandGhostingd", "ghosted"]


def ghosted(image: torch.Tensor, dim: int, shift: int, strength: float, phase: float) -> torch.Tensor:
    """Add two fainter copies of an image to it, displaced either way along the phase-encoding axis.

    Breathing, pulsation and swallowing modulate the lines of k-space periodically. Where line k of N is multiplied by
    ``1 + 2 * strength * cos(2 * pi * k * shift / N + phase)``, the image that is reconstructed is the magnitude of
    itself and of two copies, ``shift`` voxels to either side and turned by ``phase`` against it, which is what is
    computed here. So ghosts are bright in the air, and brighten or darken tissue; what leaves the image at one end
    enters it at the other.

    Args:
        image: floating point, any shape and scale; its smallest value counts as no signal.
        dim: the phase-encoding axis of ``image``.
        shift: in voxels.
        strength: of each copy, as a share of the image's signal.
        phase: in radians.

    Returns:
        The same shape and scale.
    """
    lowest = image.min()
    signal = image - lowest
    before, behind = (torch.roll(signal, step, dim) for step in (-shift, shift))
    real = signal + strength * math.cos(phase) * (before + behind)
    imaginary = strength * math.sin(phase) * (before - behind)
    return torch.hypot(real, imaginary) + lowest


class RandGhostingd(RandomizableTransform, MapTransform):
    """Ghosts of periodic motion along one in-plane axis, see :func:`ghosted`; all keys and channels get the same.

    Place it behind what moves voxels, and not on label maps.

    Args:
        keys: items to change, (C, ...).
        prob: with which probability anything is done.
        axes: spatial axes, counted without the channel, of which one is drawn to be the phase-encoding axis. Both
            in-plane ones of a sagittal scan are in use.
        distance: range of the copies' distance, as a share of the axis; above 0 and at most 0.5. It is rounded to
            whole voxels, at least one.
        strength: range of each copy's strength, as a share of the signal, from 0 to 1.
        allow_missing_keys: skip keys that an item lacks.

    Raises:
        ValueError: a range is none, or goes beyond its limits; or there is no axis.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.1,
        axes: Sequence[int] = (0, 1),
        distance: Sequence[float] = (0.1, 0.5),
        strength: Sequence[float] = (0.05, 0.25),
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        if len(distance) != 2 or not 0 < distance[0] <= distance[1] <= 0.5:
            raise ValueError(f"distance must be a range above 0 and up to 0.5, got {distance}")
        if len(strength) != 2 or not 0 <= strength[0] <= strength[1] <= 1:
            raise ValueError(f"strength must be a range from 0 to 1, got {strength}")
        if len(axes) == 0:
            raise ValueError("axes must name at least one axis")
        self.axes, self.distance, self.strength = tuple(axes), tuple(distance), tuple(strength)
        self._axis, self._share, self._drawn_strength, self._phase = self.axes[0], 0.0, 0.0, 0.0

    def randomize(self, data: Any = None) -> None:
        """Draw whether, and how."""
        super().randomize(data)
        if self._do_transform:
            self._axis = self.axes[self.R.randint(len(self.axes))]
            self._share = self.R.uniform(*self.distance)
            self._drawn_strength = self.R.uniform(*self.strength)
            self._phase = self.R.uniform(0, 2 * math.pi)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        d = dict(data)
        self.randomize()
        if not self._do_transform:
            return d
        for key in self.key_iterator(d):
            plain = d[key].as_subclass(torch.Tensor)
            shift = max(1, round(self._share * plain.shape[self._axis + 1]))
            changed = ghosted(plain, self._axis + 1, shift, self._drawn_strength, self._phase)
            d[key] = convert_to_dst_type(changed, d[key])[0]
        return d

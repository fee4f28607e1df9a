"""Half the in-plane resolution, and back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import TraceKeys, ensure_tuple_rep

from common.networks.slice_context import halve_in_plane

__all__ = ["HalveInPlaned"]


class HalveInPlaned(MapTransform, InvertibleTransform):
    """Halve the in-plane resolution of volumes, as within the network, and of label maps.

    See :func:`common.networks.slice_context.halve_in_plane`. Of label maps every second voxel is taken, which lies half
    a voxel of the full resolution beside the middle of the halved one.

    The first stage of SSHSNet works on half of what the second one sees. The authors resample and normalise twice;
    here the half resolution is made of the full one, so that the first stage sees the same in its own training and
    in the second stage's.

    The inverse interpolates predictions (any number of channels) linearly at the full resolution again, whatever mode
    the inversion asks for.

    Args:
        keys: items, each a MetaTensor or tensor (C, H, W, D) with even H and W.
        mode: for each key ``bilinear`` or ``nearest``.
        allow_missing_keys: skip keys that an item lacks.

    Raises:
        ValueError: H or W is odd, or a mode is neither of the two.
    """

    def __init__(
        self, keys: KeysCollection, mode: str | Sequence[str] = "bilinear", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mode = ensure_tuple_rep(mode, len(self.keys))
        if unknown := set(self.mode) - {"bilinear", "nearest"}:
            raise ValueError(f"mode must be bilinear or nearest, got {', '.join(map(repr, sorted(unknown)))}")

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        d = dict(data)
        for key, mode in self.key_iterator(d, self.mode):
            volume = d[key]
            plain = volume.as_tensor() if isinstance(volume, MetaTensor) else volume
            if mode == "bilinear":
                halved = halve_in_plane(plain.float()[None])[0]
            elif plain.shape[1] % 2 or plain.shape[2] % 2:
                raise ValueError(f"halving needs an even height and width, got {list(plain.shape)}")
            else:
                halved = plain[:, ::2, ::2].contiguous()
            d[key] = self._placed(halved, volume) if isinstance(volume, MetaTensor) else halved
        return d

    def _placed(self, halved: torch.Tensor, volume: MetaTensor) -> MetaTensor:
        """Give the halved voxels their place in the world, and note what was done."""
        to_full = torch.diag(torch.tensor([2.0, 2.0, 1.0, 1.0], dtype=torch.float64))
        to_full[:2, 3] = 0.5
        meta = self.track_transform_meta(
            volume,
            sp_size=tuple(halved.shape[1:]),
            affine=to_full,
            extra_info={"affine": np.asarray(volume.affine)},
            orig_size=tuple(volume.shape[1:]),
            transform_info=self.get_transform_info(),
        )
        return MetaTensor(halved).copy_meta_from(meta)

    def inverse(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, torch.Tensor]:
        """Bring what lies on the halved grid back to the full one."""
        d = dict(data)
        for key in self.key_iterator(d):
            scores = d[key]
            done = self.pop_transform(scores)
            # slices as channels: an interpolation in-plane
            pictures = scores.as_tensor().float().permute(0, 3, 1, 2)
            size = [int(n) for n in done[TraceKeys.ORIG_SIZE][:2]]
            full = torch.nn.functional.interpolate(pictures, size=size, mode="bilinear", align_corners=False)
            d[key] = MetaTensor(full.permute(0, 2, 3, 1).contiguous()).copy_meta_from(scores)
            d[key].affine = torch.as_tensor(done[TraceKeys.EXTRA_INFO]["affine"])
        return d

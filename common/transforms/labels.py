"""Between the values that label maps carry and the channels that a network has."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from common.data.label_scheme import LabelScheme
from common.errors import InputError

__all__ = ["ChannelsToValuesd", "DrawnStructuresd", "KeepStructuresd", "ValuesToChannelsd"]


def _file_of(volume: torch.Tensor) -> str:
    return str(volume.meta.get("filename_or_obj", "label map")) if isinstance(volume, MetaTensor) else "label map"


def _look_up(table: torch.Tensor, indices: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Index the table, and keep the geometry and history of ``like``."""
    indices = indices.as_tensor() if isinstance(indices, MetaTensor) else indices
    found = table.to(indices.device)[indices]
    if not isinstance(like, MetaTensor):
        return found
    return MetaTensor(found, meta=like.meta, applied_operations=like.applied_operations)


class ValuesToChannelsd(MapTransform):
    """Replace label values (MRSpineSeg, 0..19) by network channels; those that the network does not know become 0.

    Args:
        keys: label maps, integer-valued, any shape.
        scheme: name of the label scheme.
        allow_missing_keys: skip keys that an item lacks.

    Raises:
        InputError: the label map carries a value that the table does not have; the message names the file.
    """

    def __init__(self, keys: KeysCollection, scheme: str, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.scheme = LabelScheme.load(scheme)
        self.table = torch.from_numpy(self.scheme.value_to_channel)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        d = dict(data)
        for key in self.key_iterator(d):
            label = d[key]
            values = torch.unique(label.as_tensor() if isinstance(label, MetaTensor) else label)
            known = torch.tensor((0, *self.scheme.values), dtype=values.dtype, device=values.device)
            strange = values[~torch.isin(values, known)].tolist()
            if strange:
                names = list(dict.fromkeys(f"{value:g}" for value in strange))  # each NaN is a value of its own
                shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
                raise InputError(
                    _file_of(label), f"carries label values outside 0..19 ({shown})", "renumber it as MRSpineSeg does"
                )
            d[key] = _look_up(self.table, label.long(), label)
        return d


class DrawnStructuresd(MapTransform):
    """Add which structures a case's annotators drew, for the marginal loss and for the metrics.

    A set that draws only some structures leaves the others as background although they are visible, so background in
    its label maps means "background or something not drawn here".

    Args:
        keys: label maps that carry network channels.
        scheme: name of the label scheme.
        labelled: ``all``: a case without a ``labelled`` entry has everything drawn; ``present``: such a case has drawn
            what occurs in its label map. A case's own ``labelled`` entry (a list of values) always counts.
        drawn_key: where the result goes: booleans of shape (num_channels,), the background's True.

    Raises:
        ValueError: ``labelled`` is neither of the two words.
    """

    def __init__(self, keys: KeysCollection, scheme: str, labelled: str = "all", drawn_key: str = "drawn") -> None:
        super().__init__(keys)
        if labelled not in ("all", "present"):
            raise ValueError(f"labelled must be 'all' or 'present', got {labelled!r}")
        self.scheme, self.labelled, self.drawn_key = LabelScheme.load(scheme), labelled, drawn_key

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        d = dict(data)
        for key in self.key_iterator(d):
            values = d.get("labelled")
            if values is None and self.labelled == "present":
                present = np.unique(np.asarray(d[key]).astype(np.int64))
                values = [int(self.scheme.channel_to_value[channel]) for channel in present if channel > 0]
            d[self.drawn_key] = torch.from_numpy(self.scheme.drawn_channels(values))
        # Lists of different length cannot be collated into a batch; from here on `drawn` says it all.
        d.pop("labelled", None)
        return d


class ChannelsToValuesd(MapTransform):
    """Replace network channels by the label values that are written; the inverse of :class:`ValuesToChannelsd`.

    Args:
        keys: label maps in channels, any shape; they become uint8.
        scheme: name of the label scheme.
        allow_missing_keys: skip keys that an item lacks.

    Raises:
        ValueError: a channel is not the scheme's.
    """

    def __init__(self, keys: KeysCollection, scheme: str, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.scheme = LabelScheme.load(scheme)
        self.table = torch.from_numpy(self.scheme.channel_to_value)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        d = dict(data)
        for key in self.key_iterator(d):
            channels = d[key].long()
            if channels.numel() and not 0 <= int(channels.min()) <= int(channels.max()) < self.scheme.num_channels:
                raise ValueError(
                    f"expected channels 0..{self.scheme.num_channels - 1} for label scheme {self.scheme.name}, "
                    f"got {int(channels.min())}..{int(channels.max())}"
                )
            d[key] = _look_up(self.table, channels, d[key])
        return d


class KeepStructuresd(MapTransform):
    """Add the probabilities of all other structures to the background's.

    This is what a marginal loss takes for granted of structures that nobody drew (:class:`common.losses.MarginalLoss`).

    Args:
        keys: probabilities (C, X, Y, Z).
        scheme: name of the label scheme.
        values: label values that stay; None keeps all.
        allow_missing_keys: skip keys that an item lacks.

    Raises:
        InputError: a value is not in the table.
    """

    def __init__(
        self, keys: KeysCollection, scheme: str, values: Iterable[int] | None = None, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        kept = LabelScheme.load(scheme).drawn_channels(values)
        self.dropped = torch.from_numpy(np.flatnonzero(~kept))

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        d = dict(data)
        if not len(self.dropped):
            return d
        for key in self.key_iterator(d):
            scores = d[key].clone()
            dropped = self.dropped.to(scores.device)
            scores[0] += scores[dropped].sum(dim=0)
            scores[dropped] = 0
            d[key] = scores
        return d

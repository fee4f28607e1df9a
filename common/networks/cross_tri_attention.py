"""Cross tri-attention of SSHSNet: between the maps of a 2D and a 3D network, in-plane, between slices and channels."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from common.networks.full_precision import at_least_float32, full_precision, scripted_full_precision

__all__ = ["CrossTriAttention", "InterChannelAttention", "InterSliceAttention", "SpatialCrossAttention"]

# Numbers of an attention map that are held at a time: 128 MiB in float32. The paper's patches have 2304**2.
_LARGEST_MAP = 2**25


class SpatialCrossAttention(nn.Module):
    """In-plane attention: the 2D network tells the 3D network where to look.

    The tokens are the h * w positions of a slice, and what they say is that of all channels and slices together, so
    that all slices share one map of attention: ``softmax(Q K^T)`` over the keys. Query, key and value all come from
    the 2D map; the 3D map is what the result is added to, with a learned ``scale`` that starts at 0.

    The key's bias adds the same number to all energies of a query, which softmax takes away again; it is there for the
    number of parameters, and gets no gradient but for rounding.

    Source: SSHSNet paper, https://arxiv.org/abs/2203.12151; what the text leaves open is as in the authors' program:
    no division of the energies, one head, queries and keys of an eighth of the channels.

    Args:
        channels: channels C of both maps.
        reduction: by how much queries and keys are narrower.
        block: positions that attend at a time; their energies are computed again in the backward pass, so that no more
            than ``block * h * w`` of them are held. ``None``: all at once as long as that is 128 MiB a map.

    Raises:
        ValueError: ``channels`` is no multiple of ``reduction``, or ``block`` is not positive.
    """

    def __init__(self, channels: int, reduction: int = 8, block: int | None = None) -> None:
        super().__init__()
        if channels % reduction:
            raise ValueError(f"spatial attention expects a multiple of {reduction} channels, got {channels}")
        if block is not None and block < 1:
            raise ValueError(f"spatial attention expects a `block` of at least one position, got {block}")
        self.query = nn.Conv3d(channels, channels // reduction, 1)
        self.key = nn.Conv3d(channels, channels // reduction, 1)
        self.value = nn.Conv3d(channels, channels, 1)
        self.scale = nn.Parameter(torch.zeros(1))
        self.block = 0 if block is None else block
        self.largest_map = _LARGEST_MAP

    def forward(self, f2: torch.Tensor, f3: torch.Tensor) -> torch.Tensor:
        """Map 2D features and 3D features ``(N, C, h, w, D)`` to the attended 3D features, same shape."""
        if torch.jit.is_scripting():
            q, k, v = self.query(f2), self.key(f2), self.value(f2)
            attended = self._attend(scripted_full_precision(q), scripted_full_precision(k), scripted_full_precision(v))
        else:
            with full_precision(f2.device.type):
                f2 = f2.to(self.query.weight.dtype)
                q, k, v = self.query(f2), self.key(f2), self.value(f2)
                attended = self._attend(at_least_float32(q), at_least_float32(k), at_least_float32(v))
        return _add_scaled(f3, self.scale, attended)

    def _attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        height, width = v.shape[2], v.shape[3]
        queries, keys, values = _tokens(q), _tokens(k).transpose(1, 2), _tokens(v)
        positions = height * width
        block = self.block if self.block > 0 else max(self.largest_map // positions, 1)
        if positions <= block:
            attended = _weigh(queries, keys, values)
        else:
            parts: list[torch.Tensor] = []
            for start in range(0, positions, block):
                some = queries[:, start : start + block]
                if torch.jit.is_scripting():
                    parts.append(_weigh(some, keys, values))
                else:
                    parts.append(_weigh_again_in_backward(some, keys, values))
            attended = torch.cat(parts, dim=1)
        # (N, h * w, C * D) -> (N, C, h, w, D)
        return attended.unflatten(2, [v.shape[1], v.shape[4]]).transpose(1, 2).unflatten(2, [height, width])


class InterSliceAttention(nn.Module):
    """Attention between slices: the 3D network tells the 2D network about the neighbours.

    The tokens are the D slices of the 3D map, as they are, without projections. The weights are the softmax of
    ``max(E) - E`` over each row of ``E = X X^T``, so that the slice that is least like a slice counts most, as in the
    authors' program and in the channel attention of DANet. The result is added to the 2D map with a learned ``scale``
    that starts at 0.

    As in the authors' program query, key and value all come from the 3D map, although the paper calls it cross
    attention; ``value_from="2d"`` is the variant that takes the values from the 2D map, not the authors'.

    Args:
        value_from: ``"3d"``, or ``"2d"``.

    Raises:
        ValueError: another ``value_from``.
    """

    def __init__(self, value_from: str = "3d") -> None:
        super().__init__()
        if value_from not in ("2d", "3d"):
            raise ValueError(f"inter-slice attention takes its values from '2d' or '3d', got {value_from!r}")
        self.values_are_3d = value_from == "3d"
        self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, f2: torch.Tensor, f3: torch.Tensor) -> torch.Tensor:
        """Map 2D features and 3D features ``(N, C, h, w, D)`` to the attended 2D features, same shape."""
        values = f3 if self.values_are_3d else f2
        if torch.jit.is_scripting():
            attended = self._attend(scripted_full_precision(f3), scripted_full_precision(values))
        else:
            with full_precision(f3.device.type):
                attended = self._attend(at_least_float32(f3), at_least_float32(values))
        return _add_scaled(f2, self.scale, attended)

    def _attend(self, x: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        slices = x.flatten(1, 3)  # (N, C * h * w, D): the slices are columns
        weights = _prefer_unlike(torch.bmm(slices.transpose(1, 2), slices))
        return torch.bmm(values.flatten(1, 3), weights.transpose(1, 2)).reshape(values.shape)


class InterChannelAttention(nn.Module):
    """Attention between the channels of the merged map, without projections.

    The weights are the softmax of ``max(E) - E`` over each row of ``E = Y Y^T``, with Y the channels as rows, as in
    DANet; the result is added to the map with a learned ``scale`` that starts at 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(N, C, h, w, D)`` to the same shape."""
        if torch.jit.is_scripting():
            attended = self._attend(scripted_full_precision(x))
        else:
            with full_precision(x.device.type):
                attended = self._attend(at_least_float32(x))
        return _add_scaled(x, self.scale, attended)

    def _attend(self, x: torch.Tensor) -> torch.Tensor:
        channels = x.flatten(2)
        weights = _prefer_unlike(torch.bmm(channels, channels.transpose(1, 2)))
        return torch.bmm(weights, channels).reshape(x.shape)


class CrossTriAttention(nn.Module):
    """Cross tri-attention: one map out of the feature maps of a 2D network and of a 3D network.

    With F2 and F3 the two maps, in this order:

    - ``spatial``: F3' = F3 + scale * attention between positions of F2, :class:`SpatialCrossAttention`;
    - ``inter_slice``: F2' = F2 + scale * attention between slices of F3, :class:`InterSliceAttention`. It sees F3, not
      F3', as in the authors' program;
    - the two are merged, F2' first: 2C channels by concatenation, or C by addition;
    - ``channel``: Y + scale * attention between channels of the merged map Y, :class:`InterChannelAttention`.

    All three scales start at 0: a new module is concatenation (or addition), bit for bit. The energies are not divided
    by anything and sum over up to C * h * w products, some 590,000 in the paper's patches. So all three attentions are
    computed in float32 under autocast and in half-precision networks (TorchScript cannot switch autocast off: there
    energies and weighted sums are in float64 under autocast, the projections of ``spatial`` in low precision), and
    ``softmax(max(E) - E)`` is computed as the softmax of -E, which is the same function and rounds once less.

    Each attention can be left out. In the authors' ladder of ablations ``merge="sum"`` stands with ``spatial`` and
    ``inter_slice`` and without ``channel``. No size of the maps is built in.

    Source: "Semi-supervised hybrid spine network for segmentation of spine MR images", Computerized Medical Imaging and
    Graphics 107 (2023) 102245, https://arxiv.org/abs/2203.12151, and the authors' program where the text leaves a
    choice. 82,243 parameters with 256 channels.

    Args:
        channels: channels C of each of the two maps.
        reduction: by how much queries and keys of ``spatial`` are narrower than the maps.
        spatial: use attention between positions.
        inter_slice: use attention between slices.
        channel: use attention between channels.
        merge: ``"concat"`` or ``"sum"``.
        value_from: the values of ``inter_slice``, ``"3d"`` as in the authors' program, or ``"2d"``.
        block: positions that attend at a time in ``spatial``, see :class:`SpatialCrossAttention`; it changes the result
            by rounding only.

    Raises:
        ValueError: ``merge`` or ``value_from`` is another one, ``block`` is not positive, or ``channels`` is no
            multiple of ``reduction``.

    Shapes:
        inputs ``(N, C, h, w, D)`` both, slices last; output ``(N, 2C, h, w, D)``, or ``(N, C, h, w, D)`` for a sum.
    """

    def __init__(
        self,
        channels: int = 256,
        reduction: int = 8,
        spatial: bool = True,
        inter_slice: bool = True,
        channel: bool = True,
        merge: str = "concat",
        value_from: str = "3d",
        block: int | None = None,
    ) -> None:
        super().__init__()
        if merge not in ("concat", "sum"):
            raise ValueError(f"CrossTriAttention merges by 'concat' or 'sum', got {merge!r}")
        self.concatenate = merge == "concat"
        self.out_channels = 2 * channels if self.concatenate else channels
        self.spatial = SpatialCrossAttention(channels, reduction, block) if spatial else None
        self.inter_slice = InterSliceAttention(value_from) if inter_slice else None
        self.channel = InterChannelAttention() if channel else None

    def forward(self, f2: torch.Tensor, f3: torch.Tensor) -> torch.Tensor:
        """Merge the two maps.

        Args:
            f2: map of the 2D network, ``(N, C, h, w, D)``.
            f3: map of the 3D network, same shape.

        Returns:
            The attended and merged map, ``(N, out_channels, h, w, D)``.

        Raises:
            ValueError: the maps differ in shape.
        """
        if f2.dim() != 5 or f2.shape != f3.shape:
            raise ValueError(
                "CrossTriAttention expects two maps of one shape (batch, channels, h, w, slices), "
                f"got shapes {list(f2.shape)} and {list(f3.shape)}"
            )
        attended2, attended3 = f2, f3
        if self.spatial is not None:
            attended3 = self.spatial(f2, f3)
        if self.inter_slice is not None:
            attended2 = self.inter_slice(f2, f3)
        merged = torch.cat([attended2, attended3], dim=1) if self.concatenate else attended2 + attended3
        if self.channel is not None:
            merged = self.channel(merged)
        return merged


def _tokens(x: torch.Tensor) -> torch.Tensor:
    """Map ``(N, c, h, w, D)`` to ``(N, h * w, c * D)``."""
    return x.flatten(2, 3).transpose(1, 2).flatten(2)


def _weigh(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Attend, queries ``(N, n, c)``, keys ``(N, c, m)`` and values ``(N, m, v)``, result ``(N, n, v)``."""
    return torch.bmm(torch.bmm(queries, keys).softmax(dim=2), values)


def _weigh_again_in_backward(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    if not torch.is_grad_enabled():
        return _weigh(queries, keys, values)
    return checkpoint(_weigh, queries, keys, values, use_reentrant=False, preserve_rng_state=False)


def _prefer_unlike(energies: torch.Tensor) -> torch.Tensor:
    """Return the softmax of ``max(E) - E`` over each row."""
    return (-energies).softmax(dim=2)


def _add_scaled(x: torch.Tensor, scale: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
    """Return ``x + scale * attended`` in the dtype of ``x``."""
    return (x + scale * attended).to(x.dtype)

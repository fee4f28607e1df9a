"""SSHSNet's stages as modules that take tensors only, for formats without control flow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from common.networks import SSHSNet
from common.networks.slice_context import crop_maps, crop_probabilities, halve_in_plane, slice_triples

__all__ = ["PatchStage", "WholeWindow", "WindowStage"]

# By how much stage 1's feature maps are smaller than its window, and than what stage 2 takes of them.
_MAP_STRIDE, _ENLARGED_STRIDE = 8, 4


class WindowStage(nn.Module):
    """Stage 1 on all slices of a window at once, whatever their number: :meth:`SSHSNet.context`.

    Args:
        network: in evaluation mode.
    """

    def __init__(self, network: SSHSNet) -> None:
        super().__init__()
        self.stage1 = network.stage1

    def forward(
        self, window: torch.Tensor, before: torch.Tensor, after: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the context of windows.

        Args:
            window: normalized intensities ``(B, 1, H, W, D)``.
            before: the slice before the first ``(B, 1, H, W, 1)``; at the volume's end the first itself.
            after: the slice after the last; at the volume's end the last itself.

        Returns:
            Probabilities ``(B, classes, H / 2, W / 2, D)`` and feature maps ``(B, channels, H / 8, W / 8, D)``.
        """
        triples = slice_triples(halve_in_plane(window), halve_in_plane(before), halve_in_plane(after))
        places = [triples.shape[0], triples.shape[1]]
        probabilities, maps = self.stage1.context(triples.flatten(0, 1))
        # (B, D, C, h, w) -> (B, C, h, w, D)
        return (
            probabilities.unflatten(0, places).permute(0, 2, 3, 4, 1),
            maps.unflatten(0, places).permute(0, 2, 3, 4, 1),
        )


class PatchStage(nn.Module):
    """Stage 2 on patches anywhere in a window, whose places are a tensor: :meth:`SSHSNet.segment`.

    The network itself cuts with numbers of the program, which an exported graph would take for constants. Here the
    context is looked up; the numbers are the same but for rounding.

    Args:
        network: in evaluation mode.
        patch_size: of the patches along H, W and D.
    """

    def __init__(self, network: SSHSNet, patch_size: Sequence[int]) -> None:
        super().__init__()
        self.stage2 = network.stage2
        self.nearest = network.probability_mode == "nearest"
        self.floor_starts = network.floor_starts
        self.height, self.width, self.depth = (int(length) for length in patch_size)
        self.map_stride, self.enlarged_stride = _MAP_STRIDE, _ENLARGED_STRIDE

    def forward(
        self, patches: torch.Tensor, probabilities: torch.Tensor, maps: torch.Tensor, starts: torch.Tensor
    ) -> torch.Tensor:
        """Segment patches of one window.

        Args:
            patches: normalized intensities ``(K, 1, h, w, d)``.
            probabilities: of the window ``(1, classes, H / 2, W / 2, D)``.
            maps: of the window ``(1, channels, H / 8, W / 8, D)``.
            starts: int64 ``(K, 3)``, each patch's first row, column and slice within the window.

        Returns:
            Logits ``(K, classes, h, w, d)``.
        """
        rows, columns, slices = starts[:, :1], starts[:, 1:2], starts[:, 2:] + self._steps(self.depth, starts)
        if self.nearest:
            said = _look_up(
                probabilities[0],
                (rows + self._steps(self.height, starts)) // 2,
                (columns + self._steps(self.width, starts)) // 2,
                slices,
            )
        else:
            said = _interpolate(
                probabilities[0],
                (rows + self._steps(self.height, starts)).double() / 2 - 0.25,
                (columns + self._steps(self.width, starts)).double() / 2 - 0.25,
                slices,
            )
        seen = _interpolate(
            maps[0], self._in_map(rows, self.height, maps.shape[2]), self._in_map(columns, self.width, maps.shape[3]),
            slices,
        )  # fmt: skip
        return self.stage2(patches, said, seen)

    def _steps(self, count: int, like: torch.Tensor) -> torch.Tensor:
        return torch.arange(count, device=like.device)[None]

    def _in_map(self, starts: torch.Tensor, size: int, length: int) -> torch.Tensor:
        """Return where the enlarged map's positions lie in a map: see :func:`slice_context.crop_maps`."""
        first = starts // self.enlarged_stride if self.floor_starts else starts.double() / self.enlarged_stride
        places = first + self._steps(size // self.enlarged_stride, starts)
        return places.double() * ((length - 1) / (2 * length - 1))


class WholeWindow(nn.Module):
    """Both stages on windows that are their own patch: :meth:`SSHSNet.forward`.

    Args:
        network: in evaluation mode.
    """

    def __init__(self, network: SSHSNet) -> None:
        super().__init__()
        self.context, self.stage2 = WindowStage(network), network.stage2
        self.probability_mode, self.floor_starts = network.probability_mode, network.floor_starts

    def forward(self, window: torch.Tensor) -> torch.Tensor:
        """Map normalized intensities ``(B, 1, H, W, D)`` to logits ``(B, classes, H, W, D)``."""
        probabilities, maps = self.context(window, window[..., :1], window[..., -1:])
        size = [window.shape[2], window.shape[3]]
        return self.stage2(
            window,
            crop_probabilities(probabilities, [0, 0], size, self.probability_mode),
            crop_maps(maps, [0, 0], size, self.floor_starts),
        )


def _look_up(x: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, slices: torch.Tensor) -> torch.Tensor:
    """Take rows ``(K, h)``, columns ``(K, w)`` and slices ``(K, d)`` of ``(C, H, W, D)``: ``(K, C, h, w, d)``."""
    return x[:, rows[:, :, None, None], columns[:, None, :, None], slices[:, None, None, :]].transpose(0, 1)


def _interpolate(x: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, slices: torch.Tensor) -> torch.Tensor:
    """As :func:`_look_up`, linearly between rows and columns; outside is what lies at the edge."""
    above, below, row_share = _neighbours(rows, x.shape[1], x.dtype)
    left, right, column_share = _neighbours(columns, x.shape[2], x.dtype)
    row_share, column_share = row_share[:, None, :, None, None], column_share[:, None, None, :, None]
    upper = torch.lerp(_look_up(x, above, left, slices), _look_up(x, above, right, slices), column_share)
    lower = torch.lerp(_look_up(x, below, left, slices), _look_up(x, below, right, slices), column_share)
    return torch.lerp(upper, lower, row_share)


def _neighbours(
    places: torch.Tensor, length: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the positions before and behind places, and the share of the latter."""
    places = places.clamp(0, length - 1)
    before = places.floor()
    first = before.long()
    return first, (first + 1).clamp(max=length - 1), (places - before).to(dtype)

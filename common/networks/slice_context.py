"""What SSHSNet's second stage takes of the first, on the way there and back: slices in, patches of the results out."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

__all__ = ["crop_maps", "crop_probabilities", "halve_in_plane", "slice_triples"]


def halve_in_plane(x: torch.Tensor) -> torch.Tensor:
    """Halve the first two axes of volumes, linearly and with anti-aliasing; slices stay apart.

    A Gaussian of half a voxel, cut off at two voxels and mirrored at the border, and linear interpolation, which is the
    mean of two neighbours along each axis.

    The authors' program halves whole volumes in training and single windows in inference, which differ by two voxels
    along the windows' borders. Here both are to halve the padded volume once and cut windows from the result.

    Args:
        x: volumes ``(N, C, H, W, D)``, slices last; H and W even, at least 4.

    Returns:
        Volumes ``(N, C, H / 2, W / 2, D)``.

    Raises:
        ValueError: the input has another rank, or an H or W that cannot be halved.
    """
    if x.dim() != 5 or x.shape[2] % 2 or x.shape[3] % 2 or min(x.shape[2], x.shape[3]) < 4:
        raise ValueError(
            "expected volumes of shape (batch, channels, H, W, slices), H and W even and at least 4, "
            f"got shape {list(x.shape)}"
        )
    gaussian = (-2 * torch.arange(-2, 3, dtype=x.dtype, device=x.device).square()).exp()
    gaussian = gaussian / gaussian.sum()
    taps = (F.pad(gaussian, [0, 1]) + F.pad(gaussian, [1, 0])) / 2
    x = F.pad(x, [0, 0, 2, 2, 2, 2], mode="reflect")
    for axis in (2, 3):
        # Not a convolution, which autocast would compute in low precision.
        x = (x.unfold(axis, taps.shape[0], 2) * taps).sum(dim=5)
    return x


def slice_triples(
    x: torch.Tensor, before: torch.Tensor | None = None, after: torch.Tensor | None = None
) -> torch.Tensor:
    """Put each slice's neighbours beside it.

    Args:
        x: volumes ``(N, 1, h, w, D)``, slices last.
        before: the slice before the first, ``(N, 1, h, w, 1)``; ``None`` at the volume's end, where the first slice is
            its own neighbour.
        after: the slice after the last, as ``before``.

    Returns:
        ``(N, D, 3, h, w)``: for each slice the one before, itself, and the one after.
    """
    first = x[..., :1] if before is None else before
    last = x[..., -1:] if after is None else after
    # (N, 1, h, w, D + 2) -> (N, 1, h, w, D, 3) -> (N, D, 3, h, w)
    return torch.cat([first, x, last], dim=4).unfold(4, 3, 1).squeeze(1).permute(0, 3, 4, 1, 2)


def crop_probabilities(
    probabilities: torch.Tensor, starts: list[int], size: list[int], mode: str = "nearest"
) -> torch.Tensor:
    """Enlarge a part of a window's probabilities twofold in-plane: to the patch that starts at ``starts``.

    The numbers are those of enlarging the window and cutting the patch out, for any start.

    Args:
        probabilities: of the window at half its size, ``(N, C, H / 2, W / 2, D)``.
        starts: of the patch within the window, along H and W, in the window's voxels.
        size: of the patch, along H and W.
        mode: ``"nearest"``, or ``"linear"`` (``align_corners=False``).

    Returns:
        ``(N, C, *size, D)``.
    """
    if mode == "nearest":
        x = probabilities.permute(0, 4, 1, 2, 3)
        for i in range(2):
            first = starts[i] // 2
            x = x.narrow(i + 3, first, (starts[i] + size[i] + 1) // 2 - first)
        for i in range(2):
            x = x.repeat_interleave(2, dim=4 - i).narrow(4 - i, starts[1 - i] % 2, size[1 - i])
        return x.permute(0, 2, 3, 4, 1)
    return _interpolate(probabilities, [start / 2 - 0.25 for start in starts], [0.5, 0.5], size)


def crop_maps(maps: torch.Tensor, starts: list[int], size: list[int], floor: bool = False) -> torch.Tensor:
    """Enlarge a part of a window's feature maps twofold in-plane: to a quarter of the patch that starts at ``starts``.

    Linear with ``align_corners=True`` over the window, as the authors' program enlarges the window's maps before it
    cuts patches out. Where a start is a multiple of 4 the numbers are the same. Elsewhere that program takes the next
    smaller multiple, and features lie up to 3 voxels beside their patch (``floor``); here they are interpolated where
    they belong.

    Args:
        maps: of the window at an eighth of its size, ``(N, C, H / 8, W / 8, D)``.
        starts: of the patch within the window, along H and W, in the window's voxels.
        size: of the patch, along H and W, multiples of 4.
        floor: take the next smaller multiple of 4 as starts.

    Returns:
        ``(N, C, size[0] / 4, size[1] / 4, D)``.
    """
    quarters = [float(start // 4) if floor else start / 4 for start in starts]
    steps = [(length - 1) / (2 * length - 1) for length in maps.shape[2:4]]
    firsts = [quarters[0] * steps[0], quarters[1] * steps[1]]
    return _interpolate(maps, firsts, steps, [size[0] // 4, size[1] // 4])


def _interpolate(x: torch.Tensor, firsts: list[float], steps: list[float], counts: list[int]) -> torch.Tensor:
    """Interpolate ``(N, C, h, w, D)`` linearly along h and w at ``first + step * i``; outside is what lies at the edge.

    Two products with small matrices, several times faster than looking up neighbours: slices go out of the way first.
    """
    x = x.permute(0, 4, 1, 2, 3)
    matrices: list[torch.Tensor] = []
    for axis in range(2):
        # Only what is needed is touched: a patch is a small part of its window.
        first, length = firsts[axis], x.shape[axis + 3]
        begin = max(math.floor(first), 0)
        end = min(math.floor(first + steps[axis] * (counts[axis] - 1)) + 2, length)
        x = x.narrow(axis + 3, begin, end - begin)
        places = (first + steps[axis] * torch.arange(counts[axis], device=x.device)).clamp(0, length - 1)
        distances = (places[:, None] - torch.arange(begin, end, device=x.device)).abs()
        matrices.append((1 - distances).clamp(min=0).to(x.dtype))
    rows, columns = matrices
    return (rows @ (x @ columns.T)).permute(0, 2, 3, 4, 1)

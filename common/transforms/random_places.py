"""Where random crops lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

__all__ = ["check_fits", "random_start", "random_voxel"]


def random_voxel(random: np.random.RandomState, mask: torch.Tensor) -> tuple[int, ...] | None:
    """Draw one of the voxels where a mask is not 0; None where there is none.

    Args:
        random: what draws.
        mask: of any shape.

    Returns:
        The voxel's indices.
    """
    found = torch.nonzero(mask.reshape(-1))
    if not len(found):
        return None
    chosen = int(found[random.randint(len(found))])
    return tuple(int(index) for index in np.unravel_index(chosen, tuple(mask.shape)))


def random_start(
    random: np.random.RandomState, size: int, window: int, position: int | None = None, multiple: int = 1
) -> int:
    """Draw where a window begins along one axis.

    With a position, the window contains it at a uniformly random offset and is then moved into the volume, as the
    program of SSHSNet's authors does; the nearest multiple that still contains it counts.

    Args:
        random: what draws.
        size: of the volume.
        window: of the window, at most ``size``.
        position: the voxel to contain; None: every start is as likely.
        multiple: what the start is a multiple of; it divides ``size`` and ``window``.

    Returns:
        The first index of the window.
    """
    last = size - window
    if position is None:
        return multiple * int(random.randint(last // multiple + 1))
    start = min(max(int(random.randint(position - window + 1, position + 1)), 0), last)
    first = max(-(-(position - window + 1) // multiple) * multiple, 0)
    final = min(position // multiple * multiple, last)
    return min(max(round(start / multiple) * multiple, first), final)


def check_fits(size: Sequence[int], window: Sequence[int], multiple: int = 1, what: str = "the volume") -> None:
    """Make sure that windows can be drawn from a volume.

    Args:
        size: of the volume.
        window: of the window.
        multiple: what in-plane starts (the first two axes) are multiples of.
        what: the volume's name, for the message.

    Raises:
        ValueError: the window does not fit, or a side in-plane is no multiple.
    """
    if any(a < b for a, b in zip(size, window, strict=True)):
        raise ValueError(f"a window of {_by(window)} voxels does not fit into {what}, which has {_by(size)}: pad it")
    if any(side % multiple for side in (*size[:2], *window[:2])):
        raise ValueError(
            f"sides of {what} and of windows have to be multiples of {multiple} in-plane, "
            f"got {_by(size)} and {_by(window)}"
        )


def _by(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))

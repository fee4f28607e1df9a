"""Trained weights as they are shipped: tensors in half precision."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from common.data.atomic import atomic_path
from common.errors import InputError

__all__ = ["halved", "read_tensors", "save_tensors"]


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict that a training has left.

    Raises:
        InputError: it is not there, as the training has not come so far.
    """
    if not path.is_file():
        raise InputError(path, "there are no weights", "give the same command again")
    return torch.load(path, map_location="cpu", weights_only=True)


def halved(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Round the weights of a state dict to half precision.

    Whole numbers stay, and so does what there is one number of for each channel: biases, and scales and statistics of
    normalization. They are next to nothing in size, and small statistics are what half precision has least digits for.

    Raises:
        InputError: a number is too large for half precision.
    """
    result = {}
    for name, tensor in weights.items():
        result[name] = tensor.half() if tensor.is_floating_point() and tensor.dim() > 1 else tensor
        if not torch.isfinite(result[name]).all():
            raise InputError(name, "holds numbers that half precision does not have", "lower the learning rate")
    return result


def save_tensors(weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write a state dict, whole or not at all; equal weights give equal bytes.

    Raises:
        InputError: it cannot be written.
    """
    # Through a file object: given a path, torch stores the (temporary) name too.
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        torch.save(dict(weights), file)

"""Weights that others have published, from a file of the user's."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike

import torch
from torch import nn

__all__ = ["load_pretrained"]

Weights = dict[str, torch.Tensor]


def load_pretrained(
    module: nn.Module,
    path: str | PathLike[str],
    expected: str,
    translate: Callable[[Weights], Weights] = lambda weights: weights,
) -> None:
    """Load a published state dict into a module, whole or not at all; nothing is downloaded.

    Args:
        module: what to load into.
        path: a state dict as ``torch.save`` wrote it. It is read without running code that it may contain.
        expected: what the file should be, for the message.
        translate: makes the module's names and shapes of the file's, and leaves out what the module does not have.

    Raises:
        ValueError: the file is not there, cannot be read, or holds other weights; one line that names it.
    """
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such file; expected {expected}") from None
    except Exception as error:  # the unpickler trips over other files in many ways, KeyError included
        raise ValueError(f"{path}: is not a file of weights ({type(error).__name__}); expected {expected}") from error
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise ValueError(f"{path}: holds something else than tensors by name; expected {expected}")

    weights, own = translate(weights), module.state_dict()
    # Files of early versions of PyTorch lack the count of batches seen, which has no effect here.
    wrong = {name for name in own if name not in weights and not name.endswith("num_batches_tracked")}
    wrong |= {name for name, value in weights.items() if name not in own or own[name].shape != value.shape}
    if wrong:
        raise ValueError(
            f"{path}: does not fit ({len(wrong)} tensors are missing, unknown or of another shape; first: "
            f"{min(wrong)}); expected {expected}"
        )
    module.load_state_dict(weights, strict=False)

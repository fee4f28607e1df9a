"""Whether a word of the command line can be what an id is set to.

The configuration's own value of an id says what kind it is of: a whole number, a number, a list of so many of them. So
a number that may have a fraction is written with one there (``15.0``).
"""

from __future__ import annotations

import ast
import math
import os
import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from typing import Any

import torch

from common.errors import InputError

__all__ = ["check_value"]

# What the numbers of these ids may be; those of all others are 0 or more.
_COUNTS = (
    "*batch_size", "clip_length", "expansion", "frame_step", "frames", "*max_epochs", "num_classes", "num_folds",
    "phantom_*", "samples", "val_interval",
)  # fmt: skip
_SIZES = (
    "spatial_size", "classifier_size", "segmenter_size", "window_size", "patch_size", "aspp_rates*", "features",
    "lr_milestones", "unet_features",
)  # fmt: skip
_RANGES: Sequence[tuple[str, Callable[[float], bool], Sequence[str]]] = (
    ("1 or more", lambda number: number >= 1, (*_COUNTS, *_SIZES)),
    ("from 0 to 1", lambda number: 0 <= number <= 1, ("*_prob", "cache_rate", "dropout", "level", "*threshold")),
    ("above 0", lambda number: number > 0, ("gradient_bound", "gradient_norm", "classifier_width")),
    ("above 0 and at most 1", lambda number: 0 < number <= 1, ("crop_fraction",)),
    ("above 0 and below 1", lambda number: 0 < number < 1, ("lr_factor", "zoom")),
    ("0 or more and below 1", lambda number: 0 <= number < 1, ("test_share",)),
    ("0 or more", lambda number: number >= 0, ("*",)),
)
_ANY_LENGTH = (
    "features",
    "lr_milestones",
    "unet_features",
)  # a list of one number or more; others have as many as the configuration's
# In these lists None may stand for a number: what the scans have themselves stays.
_HOLES = ("spacing",)
# In these lists a list of a number for each axis may stand for a number.
_PER_AXIS = ("aspp_rates*",)
# Of ids that are computed where they are not set.
_EXAMPLES = {"features": [64, 128, 256, 512], "segmenter_size": [256, 256]}
# An id that is read from the settings of the weights, and what it is where they have none.
_OF_WEIGHTS = re.compile(r"\$@of_weights\.get\('\w+', (.+)\)")
_MARKS = ("$", "@", "%")  # MONAI evaluates, looks up or loads what begins so
# MONAI puts '::' in the place of each '#'; FOLDER#SERIESUID is what is restored (common.data.ScanList).
_RESTORED = ("input",)


def check_value(name: str, text: str, default: Any) -> None:
    """Refuse a word that an id cannot be set to.

    Expressions and references (``$...``, ``@...``, ``%...``) and ``None``, which MONAI ignores, are let pass; so is
    anything for an id whose own value is no number and no list of numbers, but for paths that MONAI would change.

    Args:
        name: the id.
        text: what stands behind it on the command line.
        default: what the configuration sets it to.

    Raises:
        InputError: the word is of another kind, a number is out of range, the device cannot be used, or a path has a
            meaning of its own for MONAI; the message names the id.
    """
    where = f"--{name} {text}"
    default = _EXAMPLES.get(name, default)
    if isinstance(default, str) and (usual := _OF_WEIGHTS.fullmatch(default)):
        default = _parsed(usual[1])
    if text.startswith(_MARKS):
        if os.path.lexists(text):
            raise InputError(where, f"begins with '{text[0]}', which has a meaning of its own", f"pass ./{text}")
        return
    value = _parsed(text)
    if value is None:
        return
    if name == "device":
        _check_device(where, text)
    elif _is_number(default) or _is_list(default):
        _check_numbers(name, where, value, default)
    elif isinstance(value, str) and "#" in value and name not in _RESTORED:
        raise InputError(where, "has a '#', which MONAI replaces by '::'", "use a path without it")
    elif name.endswith("_dir") and not isinstance(value, str):
        raise InputError(where, f"is read as {value!r}, not as a folder's name", f"pass ./{text}")


def _parsed(text: str) -> Any:
    """Read a word as the command line does: a Python literal, else the word itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _is_number(value: Any, whole: bool = False) -> bool:
    kinds = int if whole else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(_is_number(entry) for entry in value)


def _check_numbers(name: str, where: str, value: Any, default: Any) -> None:
    numbers = default if _is_list(default) else [default]
    whole = all(isinstance(number, int) for number in numbers)
    kind, example = "whole number" if whole else "number", str(default)
    if _is_list(default):
        any_length = name in _ANY_LENGTH
        kind = f"list of {'' if any_length else f'{len(numbers)} '}{kind}s"
        example = f"'{str(list(default)).replace(' ', '')}'"
        fits_length = isinstance(value, (list, tuple)) and (len(value) == len(numbers) or (any_length and value))
        entries = list(value) if fits_length else [None]
    else:
        entries = [value]
    if _matches(name, _HOLES) and None in entries and fits_length:
        entries = [entry for entry in entries if entry is not None]
    if _matches(name, _PER_AXIS):
        entries = [number for entry in entries for number in (entry if _is_list(entry) else [entry])]
    if not all(_is_number(entry, whole) or _is_reference(entry) for entry in entries):
        raise InputError(where, f"is not a {kind}", f"pass one such as --{name} {example}")
    words, fits, _ = next(entry for entry in _RANGES if _matches(name, entry[2]))
    if not all(fits(entry) for entry in entries if not _is_reference(entry)):
        raise InputError(where, "is out of range", f"{'each' if _is_list(default) else 'it'} has to be {words}")


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _is_reference(entry: Any) -> bool:
    return isinstance(entry, str) and entry.startswith(_MARKS)


def _check_device(where: str, name: str) -> None:
    remedy = "pass --device cpu, or cuda:0 for a GPU"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(where, "is not a device", remedy) from error
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(where, f"is not there ({str(error).splitlines()[0].split('. ')[0]})", remedy) from error

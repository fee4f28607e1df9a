"""What the benchmarks' command lines have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from common.data.atomic import write_json, write_text
from common.errors import InputError
from tools.arguments import OneLineParser

__all__ = ["OneLineParser", "check_outputs", "find_device", "positive", "words", "write_outputs"]


def words(allowed: Sequence[str]) -> Callable[[str], list[str]]:
    """Return a type of argument: one or more of these words, with commas between them."""

    def parse(text: str) -> list[str]:
        found = text.split(",")
        if unknown := [word for word in found if word not in allowed]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(allowed)}")
        return found

    return parse


def positive(text: str) -> int:
    """Return a number of 1 or more."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text!r}")
    return number


def find_device(name: str) -> torch.device:
    """Return the device that ``--device`` names.

    Raises:
        InputError: it is no CPU or CUDA device, or is not there.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"--device {name}", "is not known", "choose cpu or cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"--device {name}", "is not there", "choose cpu, or use a PyTorch that has CUDA")
    return device


def check_outputs(paths: Sequence[Path]) -> None:
    """Refuse formats that :func:`write_outputs` does not know.

    Raises:
        InputError: names the file.
    """
    for path in paths:
        if path.suffix not in (".json", ".md"):
            raise InputError(path, "is no known format", "let the name end in .json or .md")


def write_outputs(paths: Sequence[Path], content: Mapping[str, Any], report: str) -> None:
    """Write the numbers to the .json files, the report to the .md files."""
    for path in paths:
        if path.suffix == ".json":
            write_json(path, content)
        else:
            write_text(path, report)

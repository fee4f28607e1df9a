"""Names, colours, written values and network channels of the spine's structures, from one table."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import InputError

__all__ = ["BACKGROUND", "LabelScheme", "Structure", "label_values", "whole_number"]

BACKGROUND = "background"
_TABLE = Path(__file__).with_name("label_scheme.json")


@dataclass(frozen=True)
class Structure:
    """One vertebra or disc.

    Attributes:
        value: what label maps carry (MRSpineSeg's numbers, 1..19).
        channel: the network's output channel; -1 where the network does not know the structure.
        name: short name, such as ``L4`` or ``L4/L5``.
        description: the name in words.
        color: red, green, blue, each 0..255.
        snomed: code and meaning in SNOMED CT, as DICOM lists them (CID 7603 vertebrae, CID 7604 discs).
    """

    value: int
    channel: int
    name: str
    description: str
    color: tuple[int, int, int]
    snomed: tuple[str, str]

    @property
    def is_disc(self) -> bool:
        """Whether it is a disc (values 11..19, named after the vertebrae on both sides) and no vertebra (1..10)."""
        return "/" in self.name


class LabelScheme:
    """Which structures a network tells apart, and how channels and written values correspond.

    Label maps always carry the MRSpineSeg values (L5/S is 11 everywhere), whatever the network's channels are.

    Args:
        name: ``mrspineseg17`` (S..T10 and L5/S..T10/T11: the structures that the SAFNet paper reports) or
            ``mrspineseg19`` (all of them).

    Attributes:
        structures: the structures that the network knows, by channel, without the background.
        num_channels: how many channels the network has, the background (channel 0) included.
        values: every value that a label map may carry, those that the network does not know included.

    Raises:
        ValueError: the table has no scheme of that name.
    """

    def __init__(self, name: str = "mrspineseg17") -> None:
        rows = _rows()
        known = sorted({scheme for row in rows for scheme in row["channel"]})
        if name not in known:
            raise ValueError(f"unknown label scheme {name!r}; choose one of {', '.join(known)}")
        self.name = name
        self.all_structures = tuple(
            Structure(
                value=row["value"],
                channel=row["channel"].get(name, -1),
                name=row["name"],
                description=row["description"],
                color=tuple(row["color"]),
                snomed=tuple(row["snomed"]),
            )
            for row in rows
        )
        self.structures = tuple(sorted((s for s in self.all_structures if s.channel > 0), key=lambda s: s.channel))
        self.num_channels = len(self.structures) + 1
        self.values = tuple(sorted(s.value for s in self.all_structures))
        self._to_channel = np.zeros(max(self.values) + 1, dtype=np.uint8)
        self._to_value = np.zeros(self.num_channels, dtype=np.uint8)
        for structure in self.structures:
            self._to_channel[structure.value] = structure.channel
            self._to_value[structure.channel] = structure.value

    @classmethod
    @cache
    def load(cls, name: str) -> LabelScheme:
        """Return the scheme of that name; the same object for the same name."""
        return cls(name)

    @property
    def channel_to_value(self) -> np.ndarray:
        """Written value of each channel, shape (num_channels,), uint8."""
        return self._to_value

    @property
    def value_to_channel(self) -> np.ndarray:
        """Channel of each value 0..19, uint8; 0 for values that the network does not know."""
        return self._to_channel

    def channel_def(self) -> dict[str, str]:
        """Return ``channel_def`` as the bundle's metadata states it: written value to name."""
        return {"0": BACKGROUND} | {str(s.value): s.name for s in sorted(self.structures, key=lambda s: s.value)}

    def drawn_channels(self, labelled: Iterable[int] | None) -> np.ndarray:
        """Tell for each channel whether a case's annotators drew it.

        Args:
            labelled: the values that they drew; None means all of the scheme.

        Returns:
            Booleans of shape (num_channels,); the background's is True.

        Raises:
            InputError: see :func:`label_values`.
        """
        drawn = np.ones(self.num_channels, dtype=bool)
        if labelled is None:
            return drawn
        wanted = label_values(labelled)
        drawn[1:] = [s.value in wanted for s in self.structures]
        return drawn


def whole_number(value: Any) -> int | None:
    """Return a number from a file, or its digits as text, as a whole number; None for anything else."""
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,9}", value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer)):
        return None
    return int(value) if math.isfinite(value) and value == int(value) else None


def label_values(listed: Any) -> list[int]:
    """Return the label values in a list from a file, ascending, without the background's 0.

    Raises:
        InputError: it is no list of whole numbers, or one of them is not in the table.
    """
    known = {row["value"] for row in _rows()}
    remedy = f"use values from {min(known)} to {max(known)}"
    is_list = isinstance(listed, Iterable) and not isinstance(listed, (str, bytes, Mapping))
    values = {whole_number(value) for value in listed} if is_list else {None}
    if None in values:
        raise InputError("labelled", "is not a list of whole numbers", remedy)
    if unknown := sorted(values - known - {0}):
        raise InputError("labelled", f"{unknown} are not label values", remedy)
    return sorted(values - {0})


@cache
def _rows() -> list[dict[str, Any]]:
    return json.loads(_TABLE.read_text(encoding="utf-8"))["structures"]

"""Names, colours, written values and network channels of the spine's structures, from one table."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from common.errors import InputError

__all__ = ["BACKGROUND", "LabelScheme", "Structure"]

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
    """

    value: int
    channel: int
    name: str
    description: str
    color: tuple[int, int, int]


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
        rows = json.loads(_TABLE.read_text(encoding="utf-8"))["structures"]
        known = sorted({scheme for row in rows for scheme in row["channel"]})
        if name not in known:
            raise ValueError(f"unknown label scheme {name!r}; choose one of {', '.join(known)}")
        self.name = name
        self.all_structures = tuple(
            Structure(row["value"], row["channel"].get(name, -1), row["name"], row["description"], tuple(row["color"]))
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
            InputError: a value is not in the table.
        """
        drawn = np.ones(self.num_channels, dtype=bool)
        if labelled is None:
            return drawn
        wanted = {int(value) for value in labelled} - {0}
        if unknown := sorted(wanted - set(self.values)):
            raise InputError("labelled", f"{unknown} are not label values", "use values from 1 to 19")
        drawn[1:] = [s.value in wanted for s in self.structures]
        return drawn

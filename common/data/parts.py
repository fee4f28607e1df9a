"""The parts of a data set by their names."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import TypeVar

from common.errors import InputError

__all__ = ["PARTS", "chosen_part"]

# The last two: what is not trained on, and everything.
PARTS = ("train", "validation", "test", "heldout", "all")

_Items = TypeVar("_Items", bound=Sized)


def chosen_part(name: str, items_of: Callable[[str], _Items], what: str) -> _Items:
    """Return the items of a part that a user names.

    Args:
        name: one of ``PARTS``.
        items_of: gives a part's items.
        what: these are, for the message.

    Raises:
        InputError: there is no part of that name, or it is empty.
    """
    if name not in PARTS:
        raise InputError(f"part={name}", "is not a part of the data", f"choose one of {', '.join(PARTS)}")
    items = items_of(name)
    if not len(items):
        raise InputError(f"part={name}", f"has no {what} in this split", "choose another part or split")
    return items

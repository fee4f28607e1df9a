"""What tools read of configurations: their files, and the ids that ``--set ID=VALUE`` changes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.errors import InputError

__all__ = ["as_value", "ids_in_words", "read_configuration"]


def read_configuration(file: str | os.PathLike, remedy: str = "") -> dict[str, Any]:
    """Return what stands in a configuration file in JSON, nothing resolved.

    Args:
        file: the file.
        remedy: what to do where it is none; by default, to pass one.

    Raises:
        InputError: it cannot be read, or is no configuration.
    """
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(file, f"cannot be read ({error})", remedy or "pass a configuration in JSON") from error
    if not isinstance(content, dict):
        raise InputError(file, "is no configuration", remedy or "pass ids and values, {...}, in JSON")
    return content


def ids_in_words(pairs: Sequence[str], example: str) -> dict[str, str]:
    """Return what ``--set ID=VALUE`` sets, by id, as it was typed.

    Args:
        pairs: each ``ID=VALUE``; of an id that stands twice, the last counts.
        example: of one, for the message.

    Raises:
        InputError: one is not of that form.
    """
    ids = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise InputError(f"--set {pair}", "is not of the form ID=VALUE", f"pass one such as --set {example}")
        ids[name] = text
    return ids


def as_value(text: str) -> Any:
    """Return what was typed as JSON has it, or else as the word it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text

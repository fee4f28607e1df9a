"""A bundle's configuration files as a search needs them: which ids there are, and what they can be set to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.engines.launch import check_ids
from common.errors import InputError
from tools.bundle_process import as_word
from tools.configuration import ids_in_words, read_configuration

__all__ = ["Configuration"]

# What the search itself says to every training, and what would put another configuration in the place of this one.
_RESERVED = ("output_dir", "fold", "resume", "config_file", "args_file")


class Configuration:
    """Configuration files, laid one over the other.

    Args:
        files: train.json and what is laid over it.

    Attributes:
        files: their paths, as they were given.
        content: their ids.

    Raises:
        InputError: a file cannot be read, or the configuration does not cross-validate.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self.files = list(files)
        self.content: dict[str, Any] = {}
        for file in self.files:
            if Path(file).suffix != ".json":
                raise InputError(file, "is no configuration", "pass --config_file with a file in JSON")
            self.content |= read_configuration(file)
        if "fold" not in self.content:
            raise InputError(self.files[0], "has no id 'fold', so it does not cross-validate", "pass a train.json")

    @property
    def digest(self) -> str:
        """SHA-256 of what is configured, wherever the files lie."""
        return hashlib.sha256(json.dumps(self.content, sort_keys=True).encode()).hexdigest()

    def check(self, name: str, value: Any) -> None:
        """Refuse an id that there is not, and what it cannot be set to.

        Args:
            name: the id.
            value: a word of the command line, or what stands for one.

        Raises:
            InputError: names the id as ``--ID``.
        """
        if name in _RESERVED:
            raise InputError(f"--{name}", "is what the search itself sets", "leave it out")
        check_ids(["run", "--config_file", ",".join(self.files), f"--{name}={as_word(value)}"])

    def checked_ids(self, pairs: Sequence[str], example: str) -> dict[str, str]:
        """Return what ``--set ID=VALUE`` sets, each checked.

        Args:
            pairs: each ``ID=VALUE``.
            example: of one, for the message.

        Raises:
            InputError: see :func:`tools.configuration.ids_in_words` and :meth:`check`.
        """
        ids = ids_in_words(pairs, example)
        for name, text in ids.items():
            self.check(name, text)
        return ids

"""Which bundles there are, and the settings that belong to their weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from common.data.plan import read_plan
from common.errors import InputError

__all__ = ["WEIGHTS", "find_bundles", "settings_of"]

WEIGHTS = "model.pt"


def find_bundles(folder: Path, names: Sequence[str] = ()) -> dict[str, Path]:
    """Find the bundles in a folder: its own folders that hold ``configs/metadata.json``.

    Args:
        folder: where they are.
        names: which of them; none: all.

    Returns:
        Their folders by their names, in alphabetical order.

    Raises:
        InputError: the folder is none, holds no bundle, or not one of those that are named.
    """
    if not folder.is_dir():
        raise InputError(folder, "is not a folder", "pass --bundles with the folder that holds the bundles")
    found = {path.name: path for path in sorted(folder.iterdir()) if (path / "configs" / "metadata.json").is_file()}
    if not found:
        raise InputError(folder, "holds no bundle (DIR/NAME/configs/metadata.json)", "pass --bundles with their folder")
    if missing := [name for name in names if name not in found]:
        raise InputError(f"--models {missing[0]}", f"is not in {folder}", f"choose of {', '.join(found)}")
    return {name: path for name, path in found.items() if not names or name in names}


def settings_of(weights: Path, parser: ConfigParser) -> dict[str, Any]:
    """Tell what the ids of a configuration have to be for these weights (:mod:`common.data.plan`).

    Args:
        weights: the file, with or without a plan beside it.
        parser: the configuration; one without an id ``plan``, which is another project's, has no such settings.

    Returns:
        Values by id.

    Raises:
        InputError: the plan cannot be read.
    """
    ids = parser.config.get("plan")
    if not isinstance(ids, dict):
        return {}
    return {name: value for name, value in read_plan(weights).items() if name in ids and name in parser.config}

"""Data sets that the project makes itself, each in a folder of its own, whole or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from common.errors import InputError

__all__ = ["make_once"]

INDEX = "index.json"


def make_once(folder: Path, generator: Mapping[str, Any], write: Callable[[Path], None]) -> Path:
    """Make a data set, unless the folder holds the same one already.

    Args:
        folder: where to; it appears whole or not at all.
        generator: what it is made with; ``write`` stores it in ``index.json`` as ``generator``.
        write: writes the data set into an empty folder, ``index.json`` last.

    Returns:
        Path of ``index.json``.

    Raises:
        InputError: the folder holds something else, or cannot be written.
    """
    if _is_complete(folder, generator):
        return folder / INDEX
    partial = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # A sibling, so that the rename stays within one file system and happens at once.
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        write(partial)
        partial.chmod(0o755)
        if folder.exists():
            folder.rmdir()  # it is empty: _is_complete made sure of that
        partial.rename(folder)
    except OSError as error:
        # Another process may have written the same data set meanwhile: then there is nothing left to do.
        if not _is_complete(folder, generator):
            reason = error.strerror or type(error).__name__
            raise InputError(folder, f"cannot be written ({reason})", "free space or choose another folder") from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
    return folder / INDEX


def _is_complete(folder: Path, generator: Mapping[str, Any]) -> bool:
    """Tell whether a folder holds that data set; False where there is none or it is empty."""
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise InputError(folder, "is a file", "choose a folder for the phantoms")
    if not any(folder.iterdir()):
        return False
    try:
        found = json.loads((folder / INDEX).read_text(encoding="utf-8"))["generator"]
        settings = _settings(found)
    except FileNotFoundError:
        raise InputError(folder, f"holds files but no {INDEX}", "choose a new or an empty folder") from None
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        raise InputError(folder / INDEX, "is not an index of phantoms", "choose a new or an empty folder") from None
    if found != generator:
        problem = f"holds phantoms made with {settings}, not {_settings(generator)}"
        raise InputError(folder, problem, "choose another folder or delete this one")
    return True


def _settings(generator: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in generator.items())

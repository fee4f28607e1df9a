"""What a folder of packages says about them: ``model_info.json`` in the Model Zoo's form, and ``SHA256SUMS``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import InputError

__all__ = ["INDEX", "SUMS", "describe", "read_index", "sums"]

INDEX, SUMS = "model_info.json", "SHA256SUMS"


def _digest(path: Path, algorithm: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def describe(archive: Path, metadata: Mapping[str, Any], recipe: bool, url: str | None) -> dict[str, Any]:
    """Describe a package.

    Args:
        archive: the zip file.
        metadata: of the bundle.
        recipe: whether it has no trained weights.
        url: of the folder where the packages can be had; None: beside ``model_info.json``.

    Returns:
        ``checksum`` (SHA-1) and ``source`` as in the Model Zoo, and what :mod:`tools.fetch` needs.
    """
    return {
        "checksum": _digest(archive, "sha1"),
        "source": f"{url.rstrip('/')}/{archive.name}" if url else archive.name,
        "name": metadata["bundle"],
        "version": metadata["version"],
        "sha256": _digest(archive, "sha256"),
        "size": archive.stat().st_size,
        "recipe": recipe,
        "monai_version": metadata["monai_version"],
        "pytorch_version": metadata["pytorch_version"],
        "common_version": metadata["common_version"],
    }


def read_index(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what a folder's index says of the packages that are still in it; empty where there is none.

    Raises:
        InputError: the index cannot be read.
    """
    file = folder / INDEX
    if not file.is_file():
        return {}
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
        return {key: dict(entry) for key, entry in entries.items() if (folder / f"{key}.zip").is_file()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(file, "is no index of packages", "delete it, or choose another --output") from error


def sums(index: Mapping[str, Mapping[str, Any]], index_text: str) -> str:
    """Return what ``sha256sum -c`` reads.

    Args:
        index: all packages.
        index_text: the index as it is written.
    """
    lines = {f"{key}.zip": entry["sha256"] for key, entry in index.items()}
    lines[INDEX] = hashlib.sha256(index_text.encode()).hexdigest()
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(lines.items()))

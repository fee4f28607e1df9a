"""Weights that are kept in parts, as a repository takes no large files, and joined where they are needed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from common.data.atomic import atomic_path, write_json
from common.errors import InputError

__all__ = ["join_parts", "parts_list", "split_into_parts"]

_BLOCK = 1 << 20  # bytes that are copied at once
_REMEDY = "restore it from the repository, or pass other weights"


def parts_list(weights: str | Path) -> Path:
    """Return where the list of the parts of these weights lies: ``model.pt.parts.json`` for ``model.pt``."""
    weights = Path(weights)
    return weights.with_name(f"{weights.name}.parts.json")


def split_into_parts(source: str | Path, weights: str | Path, largest: int) -> list[Path]:
    """Write a file in parts, and a list with the SHA-256 of each and of the whole, last.

    Args:
        source: the whole file.
        weights: the file that the parts stand for; they are called ``WEIGHTS.part00`` and so on.
        largest: bytes of a part, at most.

    Returns:
        The parts and the list.

    Raises:
        InputError: a file cannot be written.
    """
    source, weights = Path(source), Path(weights)
    whole, entries, written = hashlib.sha256(), [], []
    with open(source, "rb") as file:
        while data := file.read(largest):
            part = weights.with_name(f"{weights.name}.part{len(entries):02d}")
            with atomic_path(part) as temporary:
                temporary.write_bytes(data)
            whole.update(data)
            entries.append({"file": part.name, "sha256": hashlib.sha256(data).hexdigest()})
            written.append(part)
    write_json(parts_list(weights), {"sha256": whole.hexdigest(), "parts": entries})
    return [*written, parts_list(weights)]


def join_parts(weights: str | Path) -> bool:
    """Join the parts of weights that are not there as a whole: once, whole or not at all.

    Args:
        weights: the file; where it is there already, or has no list of parts, nothing is done.

    Returns:
        Whether parts were joined.

    Raises:
        InputError: the list cannot be read, a part is missing or is another than the list says, or the file cannot be
            written.
    """
    weights = Path(weights)
    listing = parts_list(weights)
    if weights.is_file() or not listing.is_file():
        return False
    wanted, entries = _read(listing)
    whole = hashlib.sha256()
    with atomic_path(weights) as temporary, open(temporary, "wb") as target:
        for name, digest in entries:
            part = weights.with_name(name)
            if not part.is_file():
                raise InputError(part, f"is not there, though {listing.name} lists it", _REMEDY)
            with open(part, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    raise InputError(part, f"has another SHA-256 than {listing.name} says", _REMEDY)
                file.seek(0)
                while data := file.read(_BLOCK):
                    target.write(data)
                    whole.update(data)
        if whole.hexdigest() != wanted:
            raise InputError(listing, f"lists parts that do not make {weights.name}", _REMEDY)
    return True


def _read(listing: Path) -> tuple[str, list[tuple[str, str]]]:
    """Return the SHA-256 of the whole, and names and SHA-256 of the parts."""
    try:
        content: Any = json.loads(listing.read_text(encoding="utf-8"))
        entries = [(str(entry["file"]), str(entry["sha256"])) for entry in content["parts"]]
        wanted = str(content["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(listing, "is no list of parts", _REMEDY) from error
    if not entries or any(Path(name).name != name for name, _ in entries):
        raise InputError(listing, "names no files beside it", _REMEDY)
    return wanted, entries

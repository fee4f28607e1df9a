"""A bundle's folder on the user's machine: what is in it, and how another one takes its place."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from common.errors import InputError
from tools.fetch.offer import Offer

__all__ = ["Installation", "write_receipt"]

RECEIPT = ".fetched.json"


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_receipt(folder: Path, offer: Offer) -> None:
    """Write into a fresh bundle where it comes from and what its files are."""
    files = {path.relative_to(folder).as_posix(): _sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    content = {"source": str(offer.location), "sha256": offer.sha256, "version": offer.version, "files": files}
    (folder / RECEIPT).write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read an object; empty where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


class Installation:
    """The place of a bundle in a folder.

    Args:
        folder: that holds bundles.
        name: of the bundle.

    Raises:
        InputError: something else is in that place.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name, self.root = folder, name, folder / name
        # Where the old bundle is for the moment in which the new one takes its place.
        self.aside = folder / f".{name}-replaced"
        self.recover()
        if not os.path.lexists(self.root):
            return
        if self.root.is_symlink() or self.metadata.get("bundle") != name:
            raise InputError(self.root, f"is not a bundle '{name}' of its own", "choose another --bundle_dir")

    @property
    def metadata(self) -> dict[str, Any]:
        """Of the bundle that is there; empty where there is none."""
        return read_json(self.root / "configs" / "metadata.json")

    @property
    def version(self) -> str | None:
        """Of the bundle that is there."""
        return str(self.metadata.get("version")) if self.metadata else None

    @property
    def sha256(self) -> str | None:
        """Of the package that it came in; None where that is not known."""
        return read_json(self.root / RECEIPT).get("sha256")

    def recover(self) -> None:
        """End what a process that was killed while it replaced the bundle has left."""
        if self.aside.is_dir():
            if os.path.lexists(self.root):
                self._put_away()
            else:
                self.aside.rename(self.root)

    def replace(self, new: Path) -> Path | None:
        """Put a complete new bundle into the place.

        Whatever the user has added to the old one or changed in it is never deleted: it is kept as it was, beside.

        Args:
            new: its folder, in the same file system.

        Returns:
            Where the old bundle is kept; None where there was none, or nothing of the user's in it.
        """
        if not self.root.exists():
            new.rename(self.root)
            return None
        self.root.rename(self.aside)
        try:
            new.rename(self.root)
        except BaseException:
            self.aside.rename(self.root)
            raise
        return self._put_away()

    def _put_away(self) -> Path | None:
        """Delete the old bundle, or keep it under its version where the user has something in it."""
        if not own_files(self.aside):
            shutil.rmtree(self.aside, ignore_errors=True)
            return None
        version = read_json(self.aside / "configs" / "metadata.json").get("version")
        kept, number = self.folder / f"{self.name}_v{version}", 1
        while os.path.lexists(kept):
            number += 1
            kept = self.folder / f"{self.name}_v{version}_{number}"
        return self.aside.rename(kept)


def own_files(root: Path) -> list[str]:
    """Return which files of a bundle are not as they came: the user's own, or all where it is not known how they came.

    Python's caches do not count.
    """
    shipped = read_json(root / RECEIPT).get("files", {})
    own = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_dir() or name == RECEIPT or path.parent.name == "__pycache__":
            continue
        if path.is_symlink() or name not in shipped or _sha256(path) != shipped[name]:
            own.append(name)
    return own

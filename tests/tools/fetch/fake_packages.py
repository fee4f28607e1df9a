"""Packages of a bundle that is hardly more than its name, sound and unsound ones."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "safnet"


def files_of(version: str, **more: str) -> dict[str, str]:
    """What a sound package holds."""
    metadata = json.dumps({"bundle": NAME, "version": version})
    return {f"{NAME}/configs/metadata.json": metadata, f"{NAME}/LICENSE": f"licence of {version}\n"} | more


def write_zip(path: Path, members: Mapping[str | zipfile.ZipInfo, str] | list[tuple[Any, str]]) -> Path:
    """Write a zip file as it is told."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, text in members.items() if isinstance(members, Mapping) else members:
            archive.writestr(member, text)
    return path


def publish(folder: Path, version: str, members: Any = None, /, **entry: Any) -> Path:
    """Add a package to a folder's index and sums; ``entry`` changes what the index says."""
    folder.mkdir(exist_ok=True)
    key = f"{NAME}_v{version}"
    archive = write_zip(folder / f"{key}.zip", members or files_of(version))
    data = archive.read_bytes()
    index = folder / "model_info.json"
    content = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else {}
    digest = hashlib.sha256(data).hexdigest()
    content[key] = {"source": archive.name, "name": NAME, "version": version, "sha256": digest, "size": len(data)}
    content[key] |= {"recipe": True} | entry
    index.write_text(json.dumps(content), encoding="utf-8")
    with open(folder / "SHA256SUMS", "a", encoding="utf-8") as sums:
        sums.write(f"{content[key]['sha256']}  {archive.name}\n")
    return archive

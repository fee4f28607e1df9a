"""Where a result comes from."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from common.data.scan_reader import source_files
from common.errors import InputError

__all__ = ["bundle_version", "differences", "provenance", "read_provenance", "sha256_of"]

_LIBRARIES = ("torch", "monai", "numpy", "nibabel", "SimpleITK", "av")


@lru_cache(maxsize=256)
def _sha256(path: Path, size: int, modified: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    path = Path(path).resolve()
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


def bundle_version(bundle_root: str | Path) -> tuple[str, str]:
    """Return a bundle's name and version, as its metadata states them."""
    metadata = json.loads((Path(bundle_root) / "configs" / "metadata.json").read_text(encoding="utf-8"))
    return metadata["bundle"], metadata["version"]


def provenance(
    bundle_root: str | Path,
    weights: str | Path | Sequence[str | Path] | None,
    source: str | Path | None,
    settings: Mapping[str, Any],
    files: Sequence[Path] | None = None,
) -> dict[str, Any]:
    """Describe how a result was made.

    Args:
        bundle_root: the bundle's folder.
        weights: the weights that were used; several where their results were averaged; None for weights that came from
            no file, but from the application that runs the bundle.
        source: the scan that was segmented, a path form of :class:`common.data.ScanReader`; None for a data set.
        settings: what was set, by id.
        files: what the source consists of; by default the files of a scan.

    Returns:
        Bundle, version, SHA-256 of weights and source, settings, library versions, machine and time (UTC).
    """
    name, number = bundle_version(bundle_root)
    result: dict[str, Any] = {"bundle": name, "version": number, "weights": None}
    if weights is not None:
        one = isinstance(weights, str | Path)
        files_used = [weights] if one else weights
        used = [{"file": str(Path(file).resolve()), "sha256": sha256_of(file)} for file in files_used]
        result["weights"] = used[0] if one else used
    if source is not None:
        files = source_files(source) if files is None else files
        result["input"] = {"file": str(Path(source).resolve())}
        if len(files) == 1:
            result["input"]["sha256"] = sha256_of(files[0])
        else:  # a DICOM series, a folder of frames
            result["input"]["sha256_of_files"] = {path.name: sha256_of(path) for path in files}
    return result | {
        "settings": dict(settings),
        "libraries": {"python": platform.python_version()} | {library: version(library) for library in _LIBRARIES},
        "hardware": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine() + " CPU",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def read_provenance(path: str | Path) -> dict[str, Any] | None:
    """Read what :func:`provenance` told of a result; None where there is no such file.

    Raises:
        InputError: the file is not what was written.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(path, f"cannot be read ({error})", "remove it") from error
    if not isinstance(found, dict):
        raise InputError(path, "does not tell where a result comes from", "remove it")
    return found


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Name what tells a result from the one that the same files and settings would give.

    Where files lie, the machine, its device, library versions and time are not compared.

    Args:
        found: what :func:`read_provenance` gave.
        wanted: what :func:`provenance` gives now.

    Returns:
        ``bundle``, ``version``, ``weights``, ``input`` and ids of settings; empty where it is the same result.
    """
    found, wanted = (json.loads(json.dumps(one, default=str)) for one in (found, wanted))
    names = [key for key in ("bundle", "version") if found.get(key) != wanted.get(key)]
    names += [key for key in ("weights", "input") if _contents(found.get(key)) != _contents(wanted.get(key))]
    before, now = (one.get("settings") if isinstance(one.get("settings"), dict) else {} for one in (found, wanted))
    return names + [key for key in now if key != "device" and before.get(key) != now[key]]


def _contents(files: Any) -> Any:
    """Return what is in files of a provenance, in the place of where they lie."""
    if isinstance(files, list):
        return [_contents(file) for file in files]
    return {key: value for key, value in files.items() if key != "file"} if isinstance(files, dict) else files

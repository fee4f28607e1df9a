"""The zip file of a bundle, which comes from somebody else."""

from __future__ import annotations

import shutil
import stat
import unicodedata
import zipfile
from pathlib import Path

from common.errors import InputError

__all__ = ["unpack"]

_ADVICE = "do not use this package"
_MOST_MEMBERS = 10_000
# Bytes unpacked: code and documents become a few times smaller in a zip file, weights hardly.
_ALLOWANCE, _LARGEST_RATIO = 100_000_000, 10


def unpack(path: Path, shown: object, name: str, folder: Path) -> None:
    """Unpack a bundle.

    Args:
        path: of the zip file.
        shown: what messages call it.
        name: of the bundle: everything has to be below a folder of this name.
        folder: where to; ``folder/NAME`` is made.

    Raises:
        InputError: it is not a sound zip file, or has a member that would land outside, is a link, comes twice or is
            too large. Then nothing was unpacked, or only a part, to be deleted by the caller.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check(members, shown, name, path.stat().st_size)
            for member in members:
                target = folder.joinpath(*member.filename.rstrip("/").split("/"))
                if member.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as data, open(target, "xb") as file:
                    shutil.copyfileobj(data, file, 1 << 20)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(shown, f"is no sound zip file ({error})", _ADVICE) from error


def _check(members: list[zipfile.ZipInfo], shown: object, name: str, size: int) -> None:
    if len(members) > _MOST_MEMBERS:
        raise InputError(shown, f"has {len(members)} members, more than {_MOST_MEMBERS}", _ADVICE)
    total = sum(member.file_size for member in members)
    if total > _ALLOWANCE + _LARGEST_RATIO * size:
        raise InputError(shown, f"would unpack to {total / 1e6:.0f} MB from {size / 1e6:.1f} MB", _ADVICE)
    seen: dict[str, bool] = {}  # whether it is a folder
    for member in members:
        # What zipfile shows of a name may be a part of it.
        stated = member.orig_filename
        if problem := _problem(stated, name) or _kind(member):
            raise InputError(shown, f"its member {stated!r} {problem}", _ADVICE)
        key = _folded(stated.rstrip("/"))
        parents = [key[:at] for at, letter in enumerate(key) if letter == "/"]
        is_folder = stated.endswith("/")
        if (key in seen and not (is_folder and seen[key])) or any(seen.get(parent) is False for parent in parents):
            raise InputError(shown, f"its member {stated!r} comes twice", _ADVICE)
        seen |= dict.fromkeys(parents, True) | {key: is_folder}


def _problem(stated: str, name: str) -> str:
    """Say what is wrong with the name of a member."""
    parts = stated.removesuffix("/").split("/")
    if stated.startswith("/") or "\\" in stated or ":" in stated or ".." in parts:
        return "would land outside of its folder"
    if any(ord(letter) < 32 for letter in stated) or any(part in ("", ".") or part[-1] in ". " for part in parts):
        return "has a name that is no plain path"
    if parts[0] != name or (len(parts) == 1 and not stated.endswith("/")):
        return f"is not in the folder {name}"
    return ""


def _kind(member: zipfile.ZipInfo) -> str:
    """Say what is wrong with the kind of a member."""
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is neither a file nor a folder"
    return "is encrypted" if member.flag_bits & 1 else ""


def _folded(path: str) -> str:
    """Return what paths have in common that are the same file on some systems."""
    return unicodedata.normalize("NFC", path).casefold()

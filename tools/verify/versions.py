"""What a bundle's metadata say about versions."""

from __future__ import annotations

import json
import re
from pathlib import Path

from common.errors import InputError
from tools.verify.schema import NEWEST_SCHEMA

__all__ = ["check_version", "version_key"]


def version_key(version: str) -> tuple[int, int, int]:
    """Return the numbers of a version of the form 1.2.3, which sort as they should.

    Raises:
        ValueError: it is of another form.
    """
    if not (found := re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", version)):
        raise ValueError(f"'{version}' is no version of the form 1.2.3")
    major, minor, patch = map(int, found.groups())
    return major, minor, patch


def check_version(root: Path) -> None:
    """Check versions and the list of changes.

    Raises:
        InputError: the version is not in the changelog or not the newest there; a version is not one exact version;
            the shared code is of another version; the schema is not the newest.
    """
    file = root / "configs" / "metadata.json"
    metadata = json.loads(file.read_text(encoding="utf-8"))
    version, changes = str(metadata.get("version")), metadata.get("changelog") or {}
    for stated in (version, *changes):
        try:
            version_key(stated)
        except ValueError as error:
            raise InputError(file, str(error), "write one such as 0.1.0") from error
    if version not in changes:
        raise InputError(file, f"its changelog does not say what is new in {version}", "add an entry")
    if list(changes) != sorted(changes, key=version_key, reverse=True) or version != next(iter(changes)):
        raise InputError(file, f"its changelog does not begin with {version} and go back from there", "sort it")
    stated = {package: metadata.get(f"{package}_version") for package in ("monai", "pytorch", "numpy")}
    for package, number in {**stated, **metadata.get("required_packages_version", {})}.items():
        if not re.fullmatch(r"\d+(\.\d+)+", str(number)):
            raise InputError(file, f"its version of {package}, {number}, is not exact", "write one such as 1.2.3")
    code = root / "common" / "__init__.py"
    own = re.search(r'^__version__ = "(.+)"$', code.read_text(encoding="utf-8"), re.MULTILINE)
    if own is None or metadata.get("common_version") != own[1]:
        given = own[1] if own else "none"
        raise InputError(file, f"needs common {metadata.get('common_version')}, there is {given}", "state that one")
    if not str(metadata.get("schema")).endswith(f"/{NEWEST_SCHEMA}"):
        raise InputError(file, "names another schema than the newest", f"let it be .../{NEWEST_SCHEMA}")

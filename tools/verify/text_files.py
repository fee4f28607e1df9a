"""The form of a bundle's text files: what the Model Zoo's pre-commit hooks ask for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from common.errors import InputError
from tools.bundle_files import Contents

__all__ = ["check_text_files"]

_TEXTS = (".json", ".conf", ".md", ".txt")
_PERSONAL = re.compile(r"(?<![\w.])/(?:home|Users|root)/\w|[A-Za-z]:\\+Users\\")
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")


def check_text_files(root: Path) -> None:
    """Check line ends, white space, paths of a person's machine, private keys, and how JSON is written.

    Raises:
        InputError: names the file.
    """
    for name, path in Contents(root).files.items():
        if name.startswith(("common/", "models/")) or (path.suffix not in _TEXTS and name != "LICENSE"):
            continue
        data = path.read_bytes()
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(path, "is not UTF-8", "save it as UTF-8") from error
        if b"\r" in data:
            raise InputError(path, "has line ends of Windows", "save it with LF")
        if not text.endswith("\n") or text.endswith("\n\n"):
            raise InputError(path, "does not end with one line end", "let it")
        for number, line in enumerate(text.split("\n"), 1):
            if line != line.rstrip():
                raise InputError(f"{path}, line {number}", "has white space at its end", "delete it")
            if found := _PERSONAL.search(line):
                raise InputError(f"{path}, line {number}", f"names a place of one machine ({found[0]}...)", "write DIR")
            if _PRIVATE_KEY.search(line):
                raise InputError(f"{path}, line {number}", "holds a private key", "delete it, and let it be replaced")
        if path.suffix == ".json":
            _check_json(path, text)


def _check_json(path: Path, text: str) -> None:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise InputError(path, f"has '{twice}' twice in one place", "delete one of them")
        return dict(pairs)

    try:
        content = json.loads(text, object_pairs_hook=once)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(path, f"is not valid JSON ({error})", "correct it") from error
    if text != json.dumps(content, indent=4, ensure_ascii=False) + "\n":
        raise InputError(path, "is not written with an indent of 4, a value a line", "write it so")

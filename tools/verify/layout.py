"""The files that a bundle has to have, and those that it may have."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from common.errors import InputError
from tools.bundle_files import LARGE_FILES, WEIGHTS, Contents, large_files

__all__ = ["check_directory", "check_large_files", "check_licence"]

_REQUIRED = (
    "LICENSE", "configs/metadata.json", "configs/inference.json", "configs/train.json", "configs/logging.conf",
    "docs/README.md", "docs/data_license.txt", "common/__init__.py",
)  # fmt: skip
# Of https://www.apache.org/licenses/LICENSE-2.0.txt without the empty line at its beginning.
_APACHE = "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4"
_LARGEST = 1_000_000  # bytes of what is not weights, as the Model Zoo's pre-commit hook has it


def check_directory(root: Path) -> None:
    """Check which files are there, and what the folder is called.

    Raises:
        InputError: something is missing, or is there that is not part of a bundle.
    """
    files = Contents(root).files
    for name in _REQUIRED:
        if name not in files:
            remedy = "add it"
            if name.startswith("common/"):
                remedy = "clone with `git -c core.symlinks=true clone`, or take the released package"
            raise InputError(root / name, "is missing", remedy)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", root.name):
        raise InputError(root, "has no name of small letters, digits and _", "rename the folder")
    stated = json.loads(files["configs/metadata.json"].read_text(encoding="utf-8")).get("bundle")
    if stated != root.name:
        raise InputError(root, f"is the bundle '{stated}' by its metadata", "call the folder so")
    folded = [name.casefold() for name in files]
    if twice := next((name for name in files if folded.count(name.casefold()) > 1), None):
        raise InputError(root / twice, "differs from another file in upper and lower case only", "rename one of them")
    for name, path in files.items():
        if path.stat().st_size > _LARGEST and not name.startswith("models/"):
            raise InputError(path, "is larger than 1 MB", f"list it in {LARGE_FILES}")


def check_licence(root: Path) -> None:
    """Check that the licence's text is unmodified and that there is one for the data.

    Raises:
        InputError: names the file.
    """
    text = (root / "LICENSE").read_text(encoding="utf-8").lstrip("\n")
    if hashlib.sha256(text.encode()).hexdigest() != _APACHE:
        raise InputError(root / "LICENSE", "is not the unmodified text of Apache-2.0", "restore it")
    data = root / "docs" / "data_license.txt"
    if not data.read_text(encoding="utf-8").strip():
        raise InputError(data, "is empty", "say which data were used, and on which terms")


def check_large_files(root: Path) -> None:
    """Check the list of files that are too large for the repository, and the files that it names.

    Raises:
        InputError: an entry leads out of the bundle, has no SHA-256 or no address, or its file is not there.
    """
    listing = root / LARGE_FILES
    for number, entry in enumerate(large_files(root), 1):
        where, path = f"{listing}, entry {number}", str(entry.get("path", ""))
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts or "\\" in path or ":" in path:
            raise InputError(where, f"its path '{path}' leads out of the bundle", f"write one such as {WEIGHTS}")
        if urlsplit(str(entry.get("url", ""))).scheme not in ("http", "https"):
            raise InputError(where, "has no url", "say where the file can be downloaded, https://...")
        wanted = str(entry.get("hash_val", ""))
        if entry.get("hash_type") != "sha256" or not re.fullmatch(r"[0-9a-f]{64}", wanted):
            raise InputError(where, "has no SHA-256", 'write hash_type "sha256" and hash_val')
        file = root / path
        if not file.is_file():
            remedy = f"run python -m monai.bundle download_large_files --bundle_path {root}"
            raise InputError(file, "is not there", remedy)
        if file.is_symlink() or not file.resolve().is_relative_to(root.resolve()):
            raise InputError(file, "is outside the bundle", "put the file itself there")
        with open(file, "rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != wanted:
                raise InputError(file, f"has another SHA-256 than {LARGE_FILES} says", "download it again")

"""Which bundles there are, which files make up one, and which of those in its folder stay behind."""

from __future__ import annotations

import difflib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import InputError

__all__ = [
    "BUNDLES", "LARGE_FILES", "ROOT", "WEIGHTS", "Contents", "bundle_names", "copy_bundle", "find_bundle",
    "find_bundles", "in_words", "is_recipe", "large_files",
]  # fmt: skip

ROOT = Path(__file__).resolve().parents[1]
BUNDLES = ROOT / "bundles"
WEIGHTS = "models/model.pt"
# In JSON: MONAI reads YAML with a further package, which the bundles do not need otherwise.
LARGE_FILES = "large_files.json"
_SHIPPED = ("LICENSE", "common", "configs", "docs", "models")
_LEFT_BY_RUNS = ("data", "eval", "output")
# What a training by a host application leaves in models/ besides these belongs to that training.
_MODEL_FILES = ("model.pt", "model.json", "model.ts", "provenance.json")
_TEXT = ".md"


def find_bundles(folder: Path, names: Sequence[str] = ()) -> list[Path]:
    """Return the folders of bundles.

    Args:
        folder: which holds them.
        names: of the wanted ones; by default all.

    Raises:
        InputError: the folder, or one of that name in it, is not there.
    """
    if not folder.is_dir():
        raise InputError(folder, "is not a folder", "pass --bundles with the folder that holds the bundles")
    there = {path.name: path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")}
    for name in names:
        if name not in there:
            known = ", ".join(there) or "nothing"
            raise InputError(folder, f"has no bundle '{name}'", f"there is {known}; see --bundles")
    if not there:
        raise InputError(folder, "holds no bundles", "pass --bundles with the folder that holds the bundles")
    return [there[name] for name in dict.fromkeys(names)] if names else list(there.values())


def bundle_names() -> list[str]:
    """Return the names of the bundles beside this program."""
    return sorted(file.parents[1].name for file in BUNDLES.glob("*/configs/inference.json"))


def find_bundle(model: str | os.PathLike) -> Path:
    """Return the folder of a bundle.

    Args:
        model: the name of one beside this program, or the folder of any, such as an unzipped release.

    Raises:
        InputError: there is none.
    """
    names = bundle_names()
    if str(model) in names:
        return BUNDLES / str(model)
    root = Path(model)
    if (root / "configs" / "inference.json").is_file():
        return root.resolve()
    if root.is_file():
        raise InputError(model, "is a file, not the folder of a bundle", "unzip a release, and pass its folder")
    if root.is_dir():
        raise InputError(model, "is not a bundle (it has no configs/inference.json)", f"pass {in_words(names)}")
    near = difflib.get_close_matches(str(model), names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"choose {in_words(names)}, or pass a bundle's folder"
    raise InputError(model, "is not a model", hint)


def in_words(names: Sequence[str]) -> str:
    """Return a choice as a sentence has it: ``a, b or c``."""
    return f"{', '.join(names[:-1])} or {names[-1]}"


@dataclass
class Contents:
    """What of a bundle's folder goes into its package.

    Args:
        root: the folder.

    Attributes:
        files: each file by its path in the package, with slashes; in that order.
        left_out: what stays behind though nobody would expect it there, by the same kind of path.

    Raises:
        InputError: something is there that is not part of a bundle, or a link that leads out of it.
    """

    root: Path
    files: dict[str, Path] = field(init=False)
    left_out: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        from common.data.weight_parts import join_parts  # tools.fetch runs without NumPy, which common.data needs

        join_parts(self.root / WEIGHTS)
        found: dict[str, Path] = {}
        for entry in sorted(self.root.iterdir()):
            if _is_clutter(entry.name) or entry.name in _LEFT_BY_RUNS or entry.stem == "large_files":
                continue  # the large files themselves are in the package, not their list
            if entry.name not in _SHIPPED:
                raise InputError(entry, "is not part of a bundle", "move it elsewhere")
            if entry.is_symlink() and entry.name != "common":
                raise _link(entry)
            if entry.is_dir():
                found |= {path.relative_to(self.root).as_posix(): path for path in _files(entry)}
            else:
                found[entry.name] = entry
        parts = {name for name in found if name.startswith(f"{WEIGHTS}.part")} if self._in_parts else set()
        own = {name for name in found if name.startswith("models/") and not _is_model_file(name)}
        self.left_out = [name for name in found if name in own - parts]
        self.files = {name: found[name] for name in sorted(found.keys() - own)}

    @property
    def _in_parts(self) -> bool:
        """Whether the repository keeps the weights in parts, which stay behind: the package holds the whole file."""
        from common.data.weight_parts import parts_list

        return parts_list(self.root / WEIGHTS).is_file()


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if _is_clutter(path.name):
            continue
        if path.is_symlink():
            raise _link(path)
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


def _link(path: Path) -> InputError:
    return InputError(path, "is a link, which a package cannot hold", "put the file itself there")


def _is_clutter(name: str) -> bool:
    """Whether it is a cache, a temporary or a hidden file, or an editor's copy."""
    return name.startswith(".") or name == "__pycache__" or name.endswith((".pyc", "~"))


def _is_model_file(name: str) -> bool:
    file = name.removeprefix("models/")
    return file in _MODEL_FILES or ("/" not in file and file.endswith(_TEXT))


def large_files(root: Path) -> list[dict[str, Any]]:
    """Return what a bundle's list of large files says, without judging it.

    Raises:
        InputError: it is no list of large files.
    """
    file = root / LARGE_FILES
    if others := sorted(root.glob("large_files.y*ml")):
        raise InputError(others[0], "needs a package that reads YAML, which bundles do not", f"write {LARGE_FILES}")
    if not file.is_file():
        return []
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))["large_files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(file, "is no list of large files", 'write {"large_files": [...]}') from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(file, "is no list of large files", 'write {"large_files": [{"path": ...}]}')
    return entries


def is_recipe(root: Path) -> bool:
    """Whether a bundle has no trained weights yet, as against weights that were forgotten or not downloaded.

    Raises:
        InputError: see :func:`large_files`.
    """
    models = root / "models"
    there = [path for path in models.iterdir() if not _is_clutter(path.name)] if models.is_dir() else []
    listed = any(str(entry.get("path", "")).startswith("models/") for entry in large_files(root))
    return not listed and all(path.suffix == _TEXT for path in there)


def copy_bundle(root: Path, target: Path) -> None:
    """Copy a bundle as its package holds it: real files in the place of links, and nothing else.

    Args:
        root: the bundle's folder.
        target: of the copy.

    Raises:
        InputError: see :class:`Contents`; or a file cannot be copied.
    """
    try:
        for name, source in Contents(root).files.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target / name)
    except OSError as error:
        raise InputError(target, f"cannot be written ({error.strerror})", "free space") from error

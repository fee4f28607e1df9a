from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tools.bundle_files import BUNDLES, copy_bundle

SHAPE = [4, 32, 16]


class Copy:
    """A bundle to be spoilt."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __truediv__(self, name: str) -> Path:
        return self.root / name

    def metadata(self, **entries: Any) -> None:
        """Change entries; None takes one away."""

        def change(content: dict[str, Any]) -> None:
            content |= entries
            for name in [name for name, value in entries.items() if value is None]:
                del content[name]

        self.edit("configs/metadata.json", change)

    def edit(self, name: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Change a JSON file and write it as it should be."""
        content = json.loads((self / name).read_text(encoding="utf-8"))
        change(content)
        (self / name).write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")

    def replace(self, name: str, old: str, new: str) -> None:
        """Change a text."""
        text = (self / name).read_text(encoding="utf-8")
        assert old in text
        (self / name).write_text(text.replace(old, new), encoding="utf-8")

    def append(self, name: str, text: str) -> None:
        """Add to a file, or make it."""
        (self / name).parent.mkdir(exist_ok=True)
        with open(self / name, "a", newline="", encoding="utf-8") as file:
            file.write(text)

    def large_file(self, data: bytes = b"x", **entry: Any) -> None:
        """List a file, and write it."""
        entry = {
            "path": "models/model.pt", "url": "https://example.org/model.pt", "hash_type": "sha256",
            "hash_val": hashlib.sha256(b"x").hexdigest(),
        } | entry  # fmt: skip
        self.append("large_files.json", json.dumps({"large_files": [entry]}))
        self.append("models/model.pt", data.decode())


def shrink(content: dict[str, Any]) -> None:
    """Let metadata speak of a small input."""
    for direction, name in (("inputs", "image"), ("outputs", "pred")):
        content["network_data_format"][direction][name]["spatial_shape"] = SHAPE


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """A copy as a package has it, with little of the shared code."""
    made = Copy(tmp_path / "bundles" / "safnet")
    for part in ("configs", "docs"):
        shutil.copytree(BUNDLES / "safnet" / part, made / part)
    (made / "common" / "networks").mkdir(parents=True)
    # The model card leads to the network's code.
    for name in ("LICENSE", "common/__init__.py", "common/errors.py", "common/networks/safnet.py"):
        shutil.copyfile(BUNDLES / "safnet" / name, made / name)
    return made


@pytest.fixture
def whole_copy(tmp_path: Path) -> Copy:
    """A copy that runs, as the package of a recipe has it: without the weights that the bundle may ship."""
    copy_bundle(BUNDLES / "safnet", tmp_path / "bundles" / "safnet")
    shutil.rmtree(tmp_path / "bundles" / "safnet" / "models", ignore_errors=True)
    made = Copy(tmp_path / "bundles" / "safnet")
    made.edit("configs/metadata.json", shrink)
    return made

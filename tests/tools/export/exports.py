"""What the tests of the exports share: tiny exports by the command, and programs that run without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.bundles.runs import ROOT, undone
from tools.export import __main__ as program
from tools.export.bundle import BundleNetwork

EXAMPLES = ROOT / "tools" / "export" / "examples"
# Runs a program in a Python that has no torch.
WITHOUT_TORCH = (
    "import runpy, sys; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; "
    "runpy.run_path(sys.argv[0], run_name='__main__'); assert sys.modules['torch'] is None"
)


def words(ids: Mapping[str, Any]) -> list[str]:
    """The ids as the command line has them."""
    return [word for name, value in ids.items() for word in ("--set", f"{name}={json.dumps(value)}")]


def needs_onnx() -> None:
    """Skip where ONNX files cannot be written."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"ONNX needs the package {package}")


def export(*arguments: str) -> int:
    """Run the command in this process; return its exit status."""
    with undone():
        return program.main([str(argument) for argument in arguments])


def network_of(bundle: str, ids: Mapping[str, Any], checkpoint: Path | None = None) -> BundleNetwork:
    """The network that the command exports."""
    with undone():
        root = ROOT / "bundles" / bundle
        return BundleNetwork.load(root, checkpoint, ids, random_weights=checkpoint is None)


def run_example(name: str, folder: Path, given: torch.Tensor) -> tuple[np.ndarray, str]:
    """Run an example without torch on a tensor; return the array that it wrote, and what it printed."""
    source, target = folder / "given.npy", folder / "found.npy"
    np.save(source, given.numpy())
    command = [sys.executable, "-c", WITHOUT_TORCH, EXAMPLES / f"{name}.py", folder, source, target]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return np.load(target), done.stdout


def check_description(folder: Path, formats: set[str]) -> dict[str, Any]:
    """Make sure that export.json says what is there; return it."""
    content = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    files = [file for part in content["parts"] for file in part["files"]]
    assert {file["format"] for file in files} == formats
    for file in files:
        assert file["ok"] and file["largest_difference"] <= file["tolerance"] < 0.01 * file["largest_output"]
        assert (folder / file["file"]).stat().st_size == file["bytes"]
    assert {path.name for path in folder.iterdir()} == {"export.json"} | {file["file"] for file in files}
    return content

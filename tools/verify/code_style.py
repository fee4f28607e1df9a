"""The form of a bundle's Python code, by the project's own rules."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from common.errors import InputError
from tools.bundle_files import ROOT

__all__ = ["check_code"]


def check_code(root: Path) -> None:
    """Check ``common`` with ruff, once where several bundles share it.

    Raises:
        InputError: ruff is not installed, or has found something.
    """
    if find_spec("ruff") is None:
        raise InputError(root / "common", "cannot be checked without ruff", "pip install -r tests/requirements.txt")
    folder = (root / "common").resolve()
    if problem := _problem(folder):
        raise InputError(folder, f"ruff says: {problem}", "run ruff check and ruff format")


@cache
def _problem(folder: Path) -> str:
    """Return ruff's first complaint about a folder."""
    for command in (["check", "--output-format", "concise"], ["format", "--check"]):
        arguments = [*command, "--quiet", "--no-cache", "--config", str(ROOT / "pyproject.toml"), str(folder)]
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments], capture_output=True, encoding="utf-8", cwd=ROOT
        )
        if done.returncode:
            lines = (done.stdout + done.stderr).strip().splitlines()
            return lines[0] if lines else f"status {done.returncode}"
    return ""

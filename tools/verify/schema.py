"""Where the published schema of a bundle's metadata is."""

from __future__ import annotations

import argparse
from pathlib import Path

from common.errors import InputError
from tools.bundle_files import ROOT

__all__ = ["NEWEST_SCHEMA", "add_schema_argument", "find_schema"]

# "permanent contract": https://project-monai.github.io/schema/; the file's name has its date.
NEWEST_SCHEMA = "meta_schema_20240725.json"
_BESIDE = ROOT.parent / "shared" / "schemas" / NEWEST_SCHEMA


def add_schema_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--schema`` to a command line."""
    parser.add_argument("--schema", type=Path, metavar="FILE", help=f"{NEWEST_SCHEMA}, where MONAI cannot download it")


def find_schema(given: Path | None) -> Path | None:
    """Return the file of the schema; None where MONAI has to download it.

    Args:
        given: what ``--schema`` says.

    Raises:
        InputError: the given file is not there, or is another schema.
    """
    if given is None:
        return _BESIDE if _BESIDE.is_file() else None
    if not given.is_file():
        raise InputError(f"--schema {given}", "is not a file", f"pass a copy of {NEWEST_SCHEMA}")
    if given.name != NEWEST_SCHEMA:
        raise InputError(f"--schema {given}", "is not the newest schema", f"pass a copy of {NEWEST_SCHEMA}")
    return given.resolve()

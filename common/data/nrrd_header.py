"""The header of an NRRD file, looked at before ITK does."""

from __future__ import annotations

import os
import re

from common.errors import InputError

__all__ = ["check_nrrd_header"]

_MAX_LINE = 500  # bytes
# Comments, a description and the user's own entries may be of any length.
_FREE = re.compile(rb"#|content:|[^:]+:=")


def check_nrrd_header(path: str | os.PathLike) -> None:
    """Make sure that an NRRD file (``.nrrd``, ``.nhdr``) has no field that ITK cannot report on.

    A wrong field of about a thousand characters overflows a buffer of ITK's when it writes its message, and ends the
    whole process. No right one is nearly as long.

    Args:
        path: the file.

    Raises:
        InputError: a line of the header is longer than ``_MAX_LINE``.
    """
    with open(path, "rb") as file:
        while (line := file.readline(_MAX_LINE + 1)).strip():
            if len(line) > _MAX_LINE and not _FREE.match(line):
                raise InputError(
                    path, f"cannot be read as NRRD (a line of its header is longer than {_MAX_LINE} bytes)",
                    "check or re-export the file",
                )  # fmt: skip
            while line and not line.endswith(b"\n"):
                line = file.readline(1 << 16)

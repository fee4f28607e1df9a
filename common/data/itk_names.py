"""File names for SimpleITK."""

from __future__ import annotations

import os

from common.errors import InputError

__all__ = ["itk_name"]


def itk_name(path: str | os.PathLike) -> str:
    """Return a path as SimpleITK takes it.

    SimpleITK ends the whole process when a name cannot be written as UTF-8, as one of an old archive may.

    Raises:
        InputError: the name cannot be written as UTF-8.
    """
    name = str(path)
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        shown = name.encode("utf-8", "backslashreplace").decode("utf-8")
        raise InputError(shown, "has characters in its name that are not UTF-8", "rename it") from error
    return name

"""Packages that only some configurations need."""

from __future__ import annotations

from importlib.util import find_spec

from common.errors import InputError

__all__ = ["require_package"]


def require_package(name: str, what: str) -> str:
    """Make sure that an optional package is installed.

    Args:
        name: of the package.
        what: what needs it, for the message.

    Returns:
        The name.

    Raises:
        InputError: it is not installed.
    """
    if find_spec(name) is None:
        raise InputError(what, f"needs the package {name}", "pip install -r tools/requirements-extra.txt")
    return name

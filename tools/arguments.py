"""What the command lines of the tools have in common."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

__all__ = ["OneLineParser"]


class OneLineParser(argparse.ArgumentParser):
    """A parser whose help is a module's docstring and whose errors are one line, with exit status 1.

    Args:
        program: the command.
        docstring: of its module.
    """

    def __init__(self, program: str, docstring: str | None) -> None:
        about, _, details = str(docstring).partition("\n")
        super().__init__(program, None, about, details, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        """Say it in one line."""
        print(f"error: {message}; see --help", file=sys.stderr)
        sys.exit(1)

"""A table with rows of several cases, which grows from run to run."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.data.atomic import write_csv

__all__ = ["CaseTable"]


class CaseTable:
    """Rows by case, in a CSV file that is written whole or not at all.

    Args:
        path: the file; rows of other cases in it stay when :meth:`load` was called.
        columns: its columns; the first one is ``case``.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, tuple(columns)
        self._rows: dict[str, list[Mapping[str, Any]]] = {}

    def load(self) -> None:
        """Take over the rows of the file, where there is one."""
        if self.path.is_file():
            with open(self.path, newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    self._rows.setdefault(str(row.get("case")), []).append(row)

    def put(self, case: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Replace the rows of a case."""
        self._rows[case] = [{"case": case, **row} for row in rows]

    def write(self) -> None:
        """Write the file.

        Raises:
            InputError: it cannot be written.
        """
        write_csv(self.path, [row for rows in self._rows.values() for row in rows], self.columns)

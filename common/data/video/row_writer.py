"""A table that grows with a video."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from common.errors import InputError

__all__ = ["RowWriter"]


class RowWriter:
    """Write a CSV file row by row, so that memory does not grow and what was done is kept.

    While it is written the file has ``.part`` before its suffix, as a :class:`common.data.video.VideoWriter`'s;
    :meth:`close` gives it its name.

    Args:
        path: the file; missing parent folders are created.
        columns: its first line.

    Attributes:
        rows: how many were written.

    Raises:
        InputError: it cannot be written.
    """

    def __init__(self, path: str | os.PathLike, columns: Sequence[str]) -> None:
        self.path, self.rows = Path(path), 0
        self._part = self.path.with_name(f"{self.path.stem}.part{self.path.suffix}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._part, "w", newline="", encoding="utf-8", buffering=1)
            self._csv = csv.writer(self._file, lineterminator="\n")
            self._csv.writerow(columns)
        except OSError as error:
            raise self._refusal(error) from error

    def write(self, row: Iterable[Any]) -> None:
        """Add a row.

        Raises:
            InputError: it cannot be written.
        """
        try:
            self._csv.writerow(row)
        except OSError as error:
            raise self._refusal(error) from error
        self.rows += 1

    def close(self) -> None:
        """Give the file its name.

        Raises:
            InputError: it cannot be written; the part stays.
        """
        try:
            self._file.close()
            os.replace(self._part, self.path)
        except OSError as error:
            raise self._refusal(error) from error

    def _refusal(self, error: OSError) -> InputError:
        reason = error.strerror or str(error)
        return InputError(self.path, f"cannot be written ({reason})", "free space or choose another output_dir")

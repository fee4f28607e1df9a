"""Files that are written whole or not at all."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import InputError

__all__ = ["TEMPORARY", "atomic_path", "write_csv", "write_json", "write_text"]

# What temporary files are called; one stays behind where a process was killed while it wrote.
TEMPORARY = ".tmp-*"
_counter = itertools.count()


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path to write to, which takes the place of ``path`` when the block ends well.

    The temporary path lies in the same folder and ends alike, so that writers which choose a format by the name
    (nibabel, Pillow) choose the same one. When the block raises, the temporary file is deleted and whatever was at
    ``path`` stays. Only write inside the block: any ``OSError`` there, and any error that one has led to
    (``torch.save`` raises a ``RuntimeError`` then), counts as a failure to write.

    Args:
        path: where the file shall be; missing parent folders are created.

    Yields:
        The path to write to.

    Raises:
        InputError: the file cannot be written (full disk, no permission, a file where a folder is needed).
    """
    path = Path(path)
    # The number tells threads of one process apart; a very long name is cut at its front, as its end is the format.
    temporary = path.with_name(f".tmp-{os.getpid()}-{next(_counter)}-{path.name[-48:]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except InputError:
        raise
    except Exception as error:
        failure = _failure_to_write(error)
        if failure is None:
            raise
        reason = failure.strerror or str(failure) or type(failure).__name__
        raise InputError(path, f"cannot be written ({reason})", "free space or choose another output_dir") from error
    finally:
        with suppress(OSError):  # gone already, or its folder could not be made
            temporary.unlink()


def _failure_to_write(error: BaseException | None) -> OSError | None:
    """Return the first ``OSError`` in the chain of what led to an error."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text atomically, as UTF-8 with line ends as they stand in it.

    Args:
        path: where the file shall be; missing parent folders are created.
        text: the whole content.

    Raises:
        InputError: the file cannot be written.
    """
    data = text.encode("utf-8")
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: str | os.PathLike, obj: Any) -> None:
    """Write an object atomically as JSON with an indent of 4 and a newline at the end.

    NumPy numbers and arrays and paths become their plain counterparts. NaN and the infinities, which JSON does not
    have, become null.

    Args:
        path: where the file shall be; missing parent folders are created.
        obj: what ``json`` can write, and the above.

    Raises:
        InputError: the file cannot be written.
        TypeError: the object holds something that has no counterpart in JSON.
    """
    write_text(path, json.dumps(_plain(obj), indent=4, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: str | os.PathLike, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write a table atomically, with a header line, commas and LF.

    Args:
        path: where the file shall be; missing parent folders are created.
        rows: one mapping per line. Columns that a row lacks, None and NaN are left empty; further keys are left out.
        columns: the columns, in their order.

    Raises:
        InputError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = (row.get(column) for column in columns)
        writer.writerow(["" if cell is None or cell != cell else cell for cell in cells])
    write_text(path, text.getvalue())


def _plain(obj: Any) -> Any:
    """Return the object with what JSON knows in place of NumPy's types, paths and non-finite numbers."""
    if isinstance(obj, (np.generic, np.ndarray)):
        obj = obj.tolist()
    if isinstance(obj, Mapping):
        return {_plain(key): _plain(value) for key, value in obj.items()}
    if isinstance(obj, (list, tuple)):
        return [_plain(value) for value in obj]
    if isinstance(obj, float) and not math.isfinite(obj):
        return None
    return str(obj) if isinstance(obj, os.PathLike) else obj

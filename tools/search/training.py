"""One training of a bundle: a process of its own, and what it reached."""

from __future__ import annotations

import csv
import math
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import InputError
from tools.search.configuration import as_word

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["TrainingError", "best_value", "training_command", "undisturbed", "wait_for"]


class TrainingError(Exception):
    """A training failed; the message is its last line."""


def training_command(files: Sequence[str], ids: Mapping[str, Any]) -> list[str]:
    """Return the words that train a bundle, behind ``python``.

    Args:
        files: the configuration files.
        ids: what they are changed to.
    """
    names = files[0] if len(files) == 1 else "[" + ",".join(f"'{file}'" for file in files) + "]"
    words = ["-m", "monai.bundle", "run", "--config_file", names]
    return words + [word for name, value in ids.items() for word in (f"--{name}", as_word(value))]


def wait_for(words: Sequence[str], log: Path, lock: int | None = None) -> None:
    """Run Python in a process of its own, to its end.

    Args:
        words: what stands behind ``python``.
        log: the file to which is added what it says.
        lock: see :func:`undisturbed`.

    Raises:
        TrainingError: it failed.
        KeyboardInterrupt: it was told to stop.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as file:
        file.write(f"$ python {shlex.join(words)}\n".encode())
        file.flush()
        begin = file.tell()
        status = subprocess.run(
            [sys.executable, *words],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            pass_fds=() if lock is None else (lock,),
        ).returncode
    if status in (-signal.SIGINT, -signal.SIGTERM):
        raise KeyboardInterrupt
    if status < 0:
        raise TrainingError(f"it was ended by {signal.Signals(-status).name}; is there enough memory? See {log}")
    if status:
        raise TrainingError(_last_line(log, begin))


def _last_line(log: Path, begin: int) -> str:
    """Return the line that says why a training failed."""
    with open(log, "rb") as file:
        file.seek(begin)
        lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1] if lines else "")
    return said.removeprefix("error: ") or f"it ended without a word; see {log}"


@contextmanager
def undisturbed(folder: Path) -> Iterator[int | None]:
    """Wait until nothing else works in a search's folder, and keep it so.

    A training outlives a search that is killed. It holds the lock that it was given, so the next search goes on when
    that training is finished rather than beside it.

    Args:
        folder: of the search.

    Yields:
        The lock, to be handed to each training; None where there are none (Windows, some network file systems).
    """
    with open(folder / ".lock", "wb") as file:
        lock = None
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                lock = file.fileno()
            except BlockingIOError:
                print(f"{folder}: a training or a search is at work there; waiting for its end", flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
                lock = file.fileno()
            except OSError:
                pass  # the file system has none
        yield lock


def best_value(history: Path, column: str, mode: str) -> float:
    """Return the best value that a training reached.

    Args:
        history: its ``history.csv``.
        column: of the score.
        mode: ``max`` or ``min``, whichever is better.

    Raises:
        InputError: there is no such column; the message names those that there are.
        TrainingError: the column has no number.
    """
    with open(history, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows, columns = list(reader), reader.fieldnames or []
    if column not in columns:
        raise InputError(f"--score {column}", f"is no column of {history}", f"choose of {', '.join(columns)}")
    numbers = [float(row[column]) for row in rows if row[column]]
    finite = [number for number in numbers if math.isfinite(number)]
    if not finite:
        raise TrainingError(f"{history} has no number in the column {column}")
    return max(finite) if mode == "max" else min(finite)

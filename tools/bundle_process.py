"""One run of a bundle: a process of its own."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["NotBegunError", "TrainingError", "as_word", "shown", "training_command", "wait_for"]


class TrainingError(Exception):
    """A run failed; the message is its last line."""


class NotBegunError(Exception):
    """The first training of all failed before it began; the message is its last line."""


def as_word(value: Any) -> str:
    """Return a value as the command line of a bundle takes it."""
    if value is None or isinstance(value, (list, tuple, dict)):
        # MONAI reads these as Python has them: None, also in a list, where JSON has null.
        return repr(json.loads(json.dumps(value, default=str)))
    return json.dumps(value) if isinstance(value, (bool, int, float)) else str(value)


def training_command(files: Sequence[str], ids: Mapping[str, Any]) -> list[str]:
    """Return the words that run a bundle's configuration, behind ``python``.

    Args:
        files: the configuration files.
        ids: what they are changed to.
    """
    names = files[0] if len(files) == 1 else "[" + ",".join(f"'{file}'" for file in files) + "]"
    words = ["-m", "monai.bundle", "run", "--config_file", names]
    return words + [word for name, value in ids.items() for word in (f"--{name}", as_word(value))]


def shown(words: Sequence[str]) -> str:
    """Return a command as it is typed into a shell."""
    plain = ('"' + word + '"' if "'" in word and not set(word) & set('"$`\\!') else shlex.quote(word) for word in words)
    return " ".join(("python", *plain))


def wait_for(
    words: Sequence[str],
    log: Path,
    lock: int | None = None,
    environment: Mapping[str, str] | None = None,
    started: Callable[[subprocess.Popen], None] | None = None,
) -> None:
    """Run Python in a process of its own, to its end.

    Args:
        words: what stands behind ``python``.
        log: the file to which is added what it says.
        lock: see :func:`tools.folder_lock.undisturbed`.
        environment: its environment; None for this process's own.
        started: is called with the process.

    Raises:
        TrainingError: it failed.
        KeyboardInterrupt: it was told to stop.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as file:
        file.write(f"$ {shown(words)}\n".encode())
        file.flush()
        begin = file.tell()
        process = subprocess.Popen(
            [sys.executable, *words],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=() if lock is None else (lock,),
        )
        try:
            if started is not None:
                started(process)
            status = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
    if status in (-signal.SIGINT, -signal.SIGTERM):
        raise KeyboardInterrupt
    if status < 0:
        raise TrainingError(f"it was ended by {signal.Signals(-status).name}; is there enough memory? See {log}")
    if status:
        raise TrainingError(_last_line(log, begin))


def _last_line(log: Path, begin: int) -> str:
    """Return the line that says why a run failed."""
    with open(log, "rb") as file:
        file.seek(begin)
        lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1] if lines else "")
    return said.removeprefix("error: ") or f"it ended without a word; see {log}"

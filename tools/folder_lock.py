"""One search, or one run of a table, at a time in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["undisturbed"]


@contextmanager
def undisturbed(folder: Path) -> Iterator[int | None]:
    """Wait until nothing else works in a folder, and keep it so.

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

"""How far a run is: a line on a terminal that is written over and over, or lines in a file."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from ignite.engine import Engine, Events
from tqdm import tqdm

from tools.segment.work import Part, Work

__all__ = ["ProgressBar", "plain_lines", "show_progress"]

_SECOND = 1.0


class ProgressBar:
    """One line that says what is done, how long it took and how long the rest will take.

    Its clock goes on within a long step. Leaving the ``with`` block takes it off the screen.

    Args:
        work: what is done.
        file: where it is drawn.
    """

    def __init__(self, work: Work, file: TextIO) -> None:
        self.work, self.file = work, file
        self._part: Part | None = None
        self._bar: tqdm | None = None
        self._lock, self._left = threading.Lock(), threading.Event()
        self._clock = threading.Thread(target=self._tick, daemon=True)

    def attach(self, engine: Engine) -> None:
        """Follow the evaluator."""
        engine.add_event_handler(Events.ITERATION_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)

    def __enter__(self) -> ProgressBar:
        self._clock.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._left.set()
        self._clock.join()
        self._close()

    def _begin(self, engine: Engine) -> None:
        part = self.work.part(engine)
        if part != self._part:
            self._close()
            with self._lock:
                self._part = part
                self._bar = tqdm(
                    total=part.steps, desc=part.name, unit=self.work.step, file=self.file, leave=False,
                    dynamic_ncols=True,
                )  # fmt: skip

    def _step(self, engine: Engine) -> None:
        with self._lock:
            self._bar.update(self.work.done(engine))

    def _close(self) -> None:
        with self._lock:
            if self._bar is not None:
                self._bar.close()
            self._bar = None

    def _tick(self) -> None:
        while not self._left.wait(_SECOND):
            with self._lock:
                if self._bar is not None:
                    self._bar.refresh()


class _Lines(logging.Handler):
    """Prints what the bundle says, but for errors: those are reported when the rest is done."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.ERROR:
            print(record.getMessage(), flush=True)


@contextmanager
def plain_lines() -> Iterator[None]:
    """Print what the bundle says, a line for each scan and every few seconds."""
    logger, lines = logging.getLogger("common"), _Lines(logging.INFO)
    logger.addHandler(lines)
    try:
        yield
    finally:
        logger.removeHandler(lines)


@contextmanager
def show_progress(work: Work, engine: Engine) -> Iterator[None]:
    """Show progress while the engine runs: a bar on a terminal, else lines."""
    if not sys.stderr.isatty():
        with plain_lines():
            yield
        return
    with ProgressBar(work, sys.stderr) as bar:
        bar.attach(engine)
        yield

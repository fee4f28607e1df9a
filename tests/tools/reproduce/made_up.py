"""A table whose runs are short programs, for tests of what runs them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.reproduce.plan import PlannedJob
from tools.reproduce.results import Model
from tools.reproduce.table import Row, Step

WRITE = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text('done', encoding='utf-8')"


def job(output: Path, key: str, words: Sequence[str], needs: Sequence[str] = (), trains: bool = False) -> PlannedJob:
    row, fold, step = key.split("/")
    number = None if fold == "single" else int(fold.removeprefix("fold_"))
    made = Row(Model(row, row), (Step(step, trains=trains),))
    return PlannedJob(key, made, made.steps[0], number, output / "jobs" / key, list(words), list(needs))


def writes(output: Path, key: str, needs: Sequence[str] = ()) -> PlannedJob:
    """A run that writes a file ``KEY`` with slashes as underscores."""
    return job(output, key, ["-c", WRITE, str(output / key.replace("/", "_"))], needs)


def fails(output: Path, key: str, line: str = "error: data: are odd; mend them") -> PlannedJob:
    return job(output, key, ["-c", f"import sys; print({line!r}); sys.exit(1)"])


def as_plan(jobs: Sequence[PlannedJob]) -> Mapping[str, PlannedJob]:
    return {made.key: made for made in jobs}


PYTHON = sys.executable

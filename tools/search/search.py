"""A random search: trials, each scored by the mean over its trainings on the folds."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from common.errors import InputError
from common.handlers.training_recorder import SPLIT, STATE
from tools.bundle_process import NotBegunError, TrainingError, shown, training_command, wait_for
from tools.folder_lock import undisturbed
from tools.search.configuration import Configuration
from tools.search.report import BEST, as_markdown, ranked, write_tables
from tools.search.results import best_value, validation_cases
from tools.search.space import Space
from tools.search.study import Trials, fold_folder

__all__ = ["Search", "Train"]

# Runs the words behind `python`; adds what is said to the file; hands the lock on (tools.bundle_process.wait_for).
Train = Callable[[Sequence[str], Path, int | None], None]
# What may be another when a search goes on, as on another machine: no score depends on them.
_FREE = ("device", "num_workers", "cache_rate")


@dataclass
class Search:
    """What is searched, and how.

    Args:
        configuration: of the trainings.
        ids: what all trainings change in it.
        space: what is drawn.
        output: the folder.
        score: column of the trainings' ``history.csv``; a training's score is its best value there.
        mode: ``max`` or ``min``, whichever is better.
        trials: how many.
        folds: those that each trial trains on.
        seed: of the draw.
        train: how a training is run.
    """

    configuration: Configuration
    ids: dict[str, str]
    space: Space
    output: Path
    score: str
    mode: str
    trials: int
    folds: list[int]
    seed: int
    train: Train = wait_for
    _started: bool = field(default=False, init=False)  # a training has begun, so data and ids are as they should be

    def run(self) -> None:
        """Train what is not trained yet, and write the table.

        Raises:
            InputError: the folder holds another search; there is no such score; folds are alike; or all trials fail.
            NotBegunError: the first training failed before it began, for want of its data say.
        """
        try:
            self.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(self.output, f"cannot be written ({error.strerror})", "pass another --output") from error
        drawn = self.space.draw(self.trials, self.seed)
        if len(drawn) < self.trials:
            print(f"{self.space.path} has no more than {len(drawn)} different trials")
        with undisturbed(self.output) as lock:
            trials = Trials(self.output, self._settings())
            trials.add(self.space, drawn)
            for trial in trials.all()[: len(drawn)]:
                if not trial.state.is_finished():
                    self._try(trials, trial, lock)
                    self._write(trials)
            self._conclude(trials)

    def _settings(self) -> dict[str, Any]:
        return {
            "score": self.score,
            "mode": self.mode,
            "space": self.space.content,
            "seed": self.seed,
            "folds": sorted(self.folds),
            "set": {name: text for name, text in self.ids.items() if name not in _FREE},
            "config_file": self.configuration.digest,
        }

    def _try(self, trials: Trials, trial: FrozenTrial, lock: int | None) -> None:
        """Train a trial's folds, but for those that are finished."""
        values, scores = trial.user_attrs["values"], dict(trial.user_attrs.get("scores", {}))
        trials.begin(trial)
        drawn = ", ".join(f"{name} {value}" for name, value in values.items())
        print(f"trial {trial.number} ({trial.number + 1} of {self.trials}): {drawn}", flush=True)
        for fold in self.folds:
            if str(fold) in scores:
                continue
            folder = fold_folder(self.output, trial.number, fold)
            try:
                self._train(folder, fold, values, lock)
                self._compare_folds(trial.number, fold)
                scores[str(fold)] = best_value(folder, self.score, self.mode)
            except TrainingError as error:
                print(f"error: trial {trial.number}, fold {fold}: {error}", file=sys.stderr, flush=True)
                trials.fail(trial, str(error))
                return
            trials.score(trial, scores)
            for state in folder.rglob(STATE):  # the largest file, and of no use from now on
                state.unlink()
            print(f"  fold {fold}: {self.score} {scores[str(fold)]:.4g}", flush=True)
        trials.finish(trial, statistics.fmean(scores[str(fold)] for fold in self.folds))

    def _train(self, folder: Path, fold: int, values: dict[str, Any], lock: int | None) -> None:
        """Train on one fold, or go on with it.

        Raises:
            TrainingError: it failed.
            NotBegunError: it failed before it began, and so far none has: its values are hardly the cause.
        """
        ids: dict[str, Any] = {**self.ids, **values, "fold": fold, "output_dir": str(folder)}
        if any(folder.rglob(STATE)):
            ids["resume"] = "true"
        before = _stamps(folder)
        try:
            self.train(training_command(self.configuration.files, ids), folder.with_suffix(".log"), lock)
        except TrainingError as error:
            if not self._started and _stamps(folder) == before:
                raise NotBegunError(str(error)) from error
            self._started = self._started or _stamps(folder) != before
            raise
        self._started = True

    def _compare_folds(self, number: int, fold: int) -> None:
        """Refuse folds that are none: data that state their parts have the same in each.

        Raises:
            InputError: a fold was validated with the same cases as another one.
        """
        cases = validation_cases(fold_folder(self.output, number, fold))
        for other in self.folds[: self.folds.index(fold)]:
            if cases and cases == validation_cases(fold_folder(self.output, number, other)):
                problem = f"fold {fold} has the same validation cases as fold {other}, as data have that state them"
                raise InputError("--folds", problem, f"pass --folds {other}")

    def _title(self) -> str:
        best = "largest" if self.mode == "max" else "least"
        folds = ", ".join(map(str, self.folds))
        return f"Random search with seed {self.seed}: {best} mean of {self.score} over folds {folds}"

    def _write(self, trials: Trials) -> list[FrozenTrial]:
        table = ranked(trials.all(), self.mode)
        write_tables(self.output, table, self.folds, list(self.space.content), self._title())
        return table

    def _conclude(self, trials: Trials) -> None:
        table = self._write(trials)
        print("\n" + as_markdown(table, self.folds, list(self.space.content), self._title()))
        failed = sum(trial.value is None for trial in table)
        if failed == len(table):
            raise InputError(self.output, f"all {failed} trials failed", "see trials.csv and the .log of each training")
        files = [*self.configuration.files, str(self.output / BEST)]
        ids = {**self.ids, "output_dir": str(self.output / "best")}
        print(f"Train with the best values:\n{shown(training_command(files, ids))}")


def _stamps(folder: Path) -> dict[Path, int]:
    """Return when the trainings in a folder began: each states its split then."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob(SPLIT)}

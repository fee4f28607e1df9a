"""The trials of a search, kept in an Optuna study that outlives the process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from common.errors import InputError
from common.handlers.training_recorder import HISTORY
from tools.search.space import Space

__all__ = ["FILE", "Trials", "fold_folder", "trial_folder"]

FILE, _NAME = "study.db", "search"
_ANOTHER = "pass what it began with, or another --output"


def trial_folder(folder: Path, number: int) -> Path:
    """Return where a trial's trainings lie."""
    return folder / f"trial_{number:03d}"


def fold_folder(folder: Path, number: int, fold: int) -> Path:
    """Return where a trial's training of one fold lies."""
    return trial_folder(folder, number) / f"fold_{fold}"


class Trials:
    """What is to be tried, what was reached, in ``study.db``.

    Args:
        folder: of the search.
        settings: what the trials depend on, by the options of the command line, in what JSON has; ``score`` and
            ``mode`` among them.

    Raises:
        InputError: the folder holds a search with other settings. All can be others until a training has finished an
            epoch, the score until the first one was taken, and the folds until the first trial has ended.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        path = folder / FILE
        if not path.is_file() and any(folder.glob("trial_*")):
            raise InputError(folder, f"holds trials, but no {FILE}", "pass another --output")
        url = URL.create("sqlite", database=str(path)).render_as_string()
        try:
            self._storage = optuna.storages.RDBStorage(url)
            if self._known():
                self._compare(folder, settings)
            if not self._known():
                self._begin(settings)
            self._study = optuna.load_study(study_name=_NAME, storage=self._storage)
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError, RuntimeError) as error:
            problem = f"cannot be used ({str(error).splitlines()[0]})"
            raise InputError(path, problem, "pass another --output, or the Optuna that made it") from error

    def _known(self) -> bool:
        return _NAME in optuna.get_all_study_names(self._storage)

    def _begin(self, settings: Mapping[str, Any]) -> None:
        direction = "maximize" if settings["mode"] == "max" else "minimize"
        study = optuna.create_study(study_name=_NAME, storage=self._storage, direction=direction)
        study.set_user_attr("settings", dict(settings))

    def _compare(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Delete a study of other settings where nothing would be lost with it, else refuse."""
        study = optuna.load_study(study_name=_NAME, storage=self._storage)
        kept = study.user_attrs.get("settings", {})  # none: it was killed as it began
        others = [name for name in settings if name not in kept or kept[name] != settings[name]]
        begun = any(folder.glob(f"trial_*/fold_*/**/{HISTORY}"))
        trials = study.get_trials(deepcopy=False)
        scored = any("scores" in trial.user_attrs for trial in trials)
        if others == ["folds"] and not any(trial.state.is_finished() for trial in trials):
            study.set_user_attr("settings", dict(settings))
            return
        if others and (scored or (begun and not {"score", "mode"}.issuperset(others))):
            raise InputError(folder, f"holds a search with another --{others[0]}", _ANOTHER)
        if others:
            optuna.delete_study(study_name=_NAME, storage=self._storage)

    def add(self, space: Space, drawn: Sequence[Mapping[str, Any]]) -> None:
        """Keep the values of all trials, before the first of them is trained.

        Args:
            space: what they are of.
            drawn: of :meth:`Space.draw`; those that are there already are its beginning.
        """
        for values in drawn[len(self._study.trials) :]:
            trial = optuna.trial.create_trial(
                state=TrialState.WAITING,
                params=space.stored(values),
                distributions=space.distributions,
                user_attrs={"values": dict(values)},
            )
            self._study.add_trial(trial)

    def all(self) -> list[FrozenTrial]:
        """Return the trials by number, with the user attributes ``values``, ``scores`` (by fold) and ``error``."""
        return self._study.get_trials()

    def begin(self, trial: FrozenTrial) -> None:
        """Take down that a trial is being worked on."""
        if trial.state == TrialState.WAITING:
            self._storage.set_trial_state_values(self._id(trial), TrialState.RUNNING)

    def score(self, trial: FrozenTrial, scores: Mapping[str, float]) -> None:
        """Take down the scores of the folds that are finished."""
        self._storage.set_trial_user_attr(self._id(trial), "scores", dict(scores))

    def finish(self, trial: FrozenTrial, mean: float) -> None:
        """Take down a trial's score."""
        self._study.tell(trial.number, mean)

    def fail(self, trial: FrozenTrial, error: str) -> None:
        """Take down that a trial failed, and why."""
        self._storage.set_trial_user_attr(self._id(trial), "error", error)
        self._study.tell(trial.number, state=TrialState.FAIL)

    def _id(self, trial: FrozenTrial) -> int:
        study = self._storage.get_study_id_from_name(_NAME)
        return self._storage.get_trial_id_from_study_id_trial_number(study, trial.number)

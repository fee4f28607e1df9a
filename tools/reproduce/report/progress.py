"""How far the jobs of a model are, and the words for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tools.reproduce.results import Job, State

__all__ = ["Progress", "progress_of", "state_of"]


@dataclass(frozen=True)
class Progress:
    """How far a model is.

    Args:
        state: done where every job is; failed where any failed.
        folds: those that the jobs are of, without what is of no fold; None stands for a single split.
        done: those of them whose jobs are all done.
        failed: those of them with a job that failed.
    """

    state: State
    folds: frozenset[int | None]
    done: frozenset[int | None]
    failed: frozenset[int | None]

    @property
    def words(self) -> str:
        """The state, with the number of folds where there are several."""
        if self.state is State.DONE or len(self.folds) < 2:
            return str(self.state)
        if self.state is State.FAILED and self.failed:
            return f"failed ({len(self.failed)} of {len(self.folds)} folds failed, {len(self.done)} done)"
        return f"{self.state} ({len(self.done)} of {len(self.folds)} folds)"

    def partial(self, scored: set[int | None]) -> str:
        """Say that scores are not of all that is to be scored; nothing where they are.

        Args:
            scored: the folds that there are scores of; None for scores that are of no fold.
        """
        whole = self.folds <= scored & self.done if None not in scored else self.state is State.DONE
        if whole:
            return ""
        if len(self.folds) < 2:
            return "partial"
        return f"partial: {len(self.done & scored)} of {len(self.folds)} folds"


def state_of(jobs: Sequence[Job]) -> State:
    """Return the state of several jobs: failed where any is, done where all are."""
    states = {job.state for job in jobs}
    return next((state for state in (State.FAILED, State.UNFINISHED) if state in states), State.DONE)


def progress_of(jobs: Sequence[Job]) -> Progress:
    """Return how far a model is.

    Args:
        jobs: all that it needs.
    """
    numbered = frozenset(job.fold for job in jobs if job.fold is not None)
    folds = numbered or frozenset(job.fold for job in jobs)
    states = {fold: state_of([job for job in jobs if job.fold == fold]) for fold in folds}
    done, failed = (
        frozenset(fold for fold, state in states.items() if state is wanted) for wanted in (State.DONE, State.FAILED)
    )
    return Progress(state_of(jobs), folds, done, failed)

from __future__ import annotations

import pytest

from tools.reproduce.report.progress import Progress, progress_of
from tools.reproduce.results import Job, State

DONE, FAILED, UNFINISHED = State.DONE, State.FAILED, State.UNFINISHED


def progress(*states: tuple[int | None, State]) -> Progress:
    return progress_of([Job(str(at), "m", fold, "train", state, "c") for at, (fold, state) in enumerate(states)])


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ((), "done"),
        (((None, DONE),), "done"),
        (((None, FAILED),), "failed"),
        (((0, UNFINISHED), (0, DONE)), "unfinished"),
        (((0, DONE), (1, DONE), (1, UNFINISHED)), "unfinished (1 of 2 folds)"),
        (((0, DONE), (1, UNFINISHED), (2, FAILED), (2, DONE)), "failed (1 of 3 folds failed, 1 done)"),
        (((0, DONE), (1, DONE), (None, FAILED)), "failed (2 of 2 folds)"),
    ],
)
def test_the_words(states, words):
    assert progress(*states).words == words


@pytest.mark.parametrize(
    ("states", "scored", "words"),
    [
        (((0, DONE), (1, DONE)), {0, 1}, ""),
        (((0, DONE), (1, DONE)), {0}, "partial: 1 of 2 folds"),
        (((0, DONE), (1, FAILED)), {0, 1}, "partial: 1 of 2 folds"),  # a job of the second has failed
        (((0, DONE), (None, FAILED)), {0}, ""),
        (((None, DONE),), {None}, ""),
        (((None, UNFINISHED),), {None}, "partial"),
        ((), {0, 1}, ""),
    ],
)
def test_scores_of_a_part_of_the_folds(states, scored, words):
    assert progress(*states).partial(scored) == words

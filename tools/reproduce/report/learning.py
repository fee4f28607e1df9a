"""The learning curves of all models, on common axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tools.reproduce.report.analysis import Analysis
from tools.reproduce.report.curves import Curve, History, curve_plot, read_history
from tools.reproduce.report.svg import color, dash
from tools.reproduce.results import Job, State

__all__ = ["Learning", "learning_curves"]

_LOSS = "loss"


@dataclass(frozen=True)
class Learning:
    """The learning curves of a model.

    Args:
        title: of the model.
        plots: of the loss, and of the validation's metric where there is one.
        lines: name, colour and dashes of each line.
        problems: what is not drawn, and why.
    """

    title: str
    plots: tuple[Markup, ...]
    lines: tuple[tuple[str, str, str], ...]
    problems: tuple[str, ...]


def learning_curves(analysis: Analysis) -> list[Learning]:
    """Draw the learning curves of each model that has a training.

    Plots of the same column share their axes, so that they can be compared.
    """
    trainings = {
        model.key: [job for job in analysis.results.jobs if job.model == model.key and job.step == "train"]
        for model in analysis.results.models
    }
    histories = {
        key: [read_history(job, job.history) for job in jobs if job.history] for key, jobs in trainings.items()
    }
    good = [one for of_model in histories.values() for one in of_model if not one.problem]
    return [
        _of_model(analysis.titles[key], jobs, histories[key], good) for key, jobs in trainings.items() if jobs
    ]  # fmt: skip


def _of_model(title: str, jobs: Sequence[Job], histories: Sequence[History], everything: Sequence[History]) -> Learning:
    names = _names(jobs)
    drawn = {one.job.key: one for one in histories if not one.problem}
    problems: dict[str, list[str]] = {}
    for one in histories:
        if one.problem:
            problems.setdefault(one.problem, []).append(names[one.job.key])
    for job in jobs:
        if job.history is None:
            problems.setdefault(f"no history ({job.state})", []).append(names[job.key])
    words = tuple(f"{', '.join(of)}: {problem}" for problem, of in problems.items())
    validation = next((one.validation for one in drawn.values() if one.validation), "")
    plots = [
        _plot(column, list(drawn.values()), jobs, everything) for column in (_LOSS, validation) if column and drawn
    ]
    lines = [(_with_state(names[job.key], job), color(at), dash(at)) for at, job in enumerate(jobs) if job.key in drawn]
    return Learning(title, tuple(plots), tuple(lines), words)


def _plot(column: str, histories: Sequence[History], jobs: Sequence[Job], everything: Sequence[History]) -> Markup:
    number = {job.key: at for at, job in enumerate(jobs)}
    curves = [Curve(number[one.job.key], *one.columns[column]) for one in histories if column in one.columns]
    shared = [one.columns[column] for one in everything if column in one.columns]
    last = max(epoch for one in everything for epochs, _ in one.columns.values() for epoch in epochs)
    return curve_plot(column, curves, [value for _, values in shared for value in values], last)


def _names(jobs: Sequence[Job]) -> dict[str, str]:
    """Name trainings by their folds, where that tells them apart."""
    folds = [job.fold for job in jobs]
    apart = len(set(folds)) == len(folds) and None not in folds
    return {job.key: f"fold {job.fold}" if apart else job.key for job in jobs}


def _with_state(name: str, job: Job) -> str:
    return name if job.state is State.DONE else f"{name} ({job.state})"

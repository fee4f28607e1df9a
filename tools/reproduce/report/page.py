"""The page of a report, which needs nothing but itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tools.reproduce.report.analysis import Analysis, Example
from tools.reproduce.report.box_plots import FEW, box_plots
from tools.reproduce.report.learning import learning_curves
from tools.reproduce.report.pictures import embed
from tools.reproduce.report.tables import (
    Table,
    comparison_note,
    comparison_table,
    fold_table,
    main_table,
    structure_table,
)
from tools.reproduce.report.words import counted, duration, heading, number, printable
from tools.reproduce.results import Metric, State

__all__ = ["unfinished_words", "write_page"]

_HERE = Path(__file__).parent


def write_page(analysis: Analysis) -> str:
    """Return the page as HTML.

    Args:
        analysis: all that it states.
    """
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"duration": duration, "counted": counted}
    style = Markup((_HERE / "style.css").read_text(encoding="utf-8"))
    return environment.get_template("page.html.jinja").render(_content(analysis), style=style)


def unfinished_words(analysis: Analysis) -> str:
    """Say how many jobs are done, where not all of them are."""
    jobs = analysis.results.jobs
    counts = {state: sum(job.state is state for job in jobs) for state in State}
    if counts[State.DONE] == len(jobs):
        return ""
    rest = [f"{counts[state]} {state}" for state in (State.FAILED, State.UNFINISHED) if counts[state]]
    return f"{counts[State.DONE]} of {counted(len(jobs), 'job')} done, {' and '.join(rest)}."


def _content(analysis: Analysis) -> dict[str, Any]:
    results, scored = analysis.results, analysis.scored()
    plots = [(heading(metric), panels) for metric in scored if (panels := box_plots(analysis, metric))]
    return {
        "results": results,
        "titles": analysis.titles,
        "facts": _facts(analysis),
        "unfinished": unfinished_words(analysis),
        "main": main_table(analysis),
        "notes": [(model.title, model.note) for model in results.models if model.note],
        "folds": [fold_table(analysis, metric) for metric in scored if analysis.whole(metric.key)]
        if analysis.folds
        else [],
        "structures": [
            structure_table(analysis, metric)
            for metric in scored
            if analysis.samples.structures(metric.key, results.structures)
        ],
        "comparisons": _comparisons(analysis),
        "plots": plots,
        "few": FEW,
        "learning": learning_curves(analysis),
        "examples": _examples(analysis),
        "ranking": analysis.ranking(),
        "trainings": _choices(analysis),
        "parts": list(dict.fromkeys(part for parts in results.splits.values() for part in parts)),
    }


def _facts(analysis: Analysis) -> list[tuple[str, str]]:
    """Return what the table is made of, at a glance: number and noun."""
    results = analysis.results
    cases, subjects = analysis.counts()
    done = sum(job.state is State.DONE for job in results.jobs)
    facts = [_fact(len(results.models), "model")]
    if cases:
        facts += [_fact(cases, "case", " scored"), _fact(subjects, "subject")]
    if analysis.folds:
        facts.append(_fact(len(analysis.folds), "fold"))
    if results.jobs:
        facts.append(("jobs done", f"{done} of {len(results.jobs)}"))
    return facts


def _fact(count: int, what: str, more: str = "") -> tuple[str, str]:
    number, _, noun = counted(count, what).partition(" ")
    return noun + more, number


def _choices(analysis: Analysis) -> list[tuple[str, str, str]]:
    """Return how the weights of each model were chosen, and in which folds so."""
    folds: dict[tuple[str, str], list[str]] = {}
    for job in analysis.results.jobs:
        if job.step == "train":
            words = job.selected_by or ("not recorded" if job.state is State.DONE else str(job.state))
            of_model = folds.setdefault((analysis.titles[job.model], words), [])
            of_model.append("one split" if job.fold is None else str(job.fold))
    return [(title, ", ".join(dict.fromkeys(of_model)), words) for (title, words), of_model in folds.items()]


@dataclass(frozen=True)
class _Compared:
    title: str
    note: str
    with_first: Table
    others: Table


def _comparisons(analysis: Analysis) -> list[_Compared]:
    found = []
    first = analysis.results.models[0]
    for metric in analysis.scored():
        pairs = analysis.comparisons.get(metric.key, [])
        if not pairs:
            continue
        sides = [one for one in pairs if one.first == first.key], [one for one in pairs if one.first != first.key]
        tables = (comparison_table(analysis, metric, side, heading(metric)) for side in sides)
        found.append(_Compared(heading(metric), comparison_note(analysis, metric), *tables))
    return found


@dataclass(frozen=True)
class _Shown:
    rank: str
    case: str
    words: str
    picture: Markup | None
    problem: str


def _examples(analysis: Analysis) -> list[tuple[str, list[_Shown]]]:
    """Return the cases that stand for each model, with their pictures."""
    metric = analysis.ranking()
    if metric is None:
        return []
    examples = {key: analysis.examples(key, metric) for key in analysis.titles}
    wanted = [
        path
        for key, of_model in examples.items()
        for one in of_model
        if (path := analysis.results.pictures.get((key, one.fold, one.case))) is not None
    ]
    embedded = embed(wanted)
    return [
        (analysis.titles[key], [_shown(analysis, metric, key, one, embedded) for one in of_model])
        for key, of_model in examples.items()
        if of_model
    ]


def _shown(analysis: Analysis, metric: Metric, model: str, one: Example, embedded: dict[Path, str | None]) -> _Shown:
    words = f"{heading(metric) if one.truth is None else 'score'} {number(one.value, metric.decimals)}"
    words += f", truth {one.truth:g}" if one.truth is not None else ""
    words += f", fold {one.fold}" if one.fold is not None else ""
    path = analysis.results.pictures.get((model, one.fold, one.case))
    uri = None if path is None else embedded[path]
    problem = "no picture was made" if path is None else f"{path.name} cannot be read as a picture"
    return _Shown(one.rank, one.case, words, None if uri is None else Markup(uri), "" if uri else problem)


def _finalize(value: object) -> object:
    return value if isinstance(value, Markup) else printable(value)

"""The tables of a report, for any format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from common.metrics import Bootstrap
from tools.paired import LEAST_SUBJECTS
from tools.reproduce.report.analysis import Analysis
from tools.reproduce.report.progress import state_of
from tools.reproduce.report.statistics import Comparison, Summary
from tools.reproduce.report.words import (
    MINUS,
    bounds,
    counted,
    heading,
    interval,
    listed,
    number,
    p_value,
    paper_figure,
    signed,
    spread,
)
from tools.reproduce.results import Figure, Metric, Model, State

__all__ = ["Cell", "Table", "comparison_note", "comparison_table", "fold_table", "main_table", "structure_table"]

_NOT_MEASURED, _ONE_CLASS = "not measured", "undefined: one class only"
_RESAMPLES = Bootstrap(1).samples


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Args:
        text: what it says first.
        notes: what stands below or behind it.
        mark: ``best``, ``missing`` where it holds words in place of a figure, ``partial``, or nothing.
    """

    text: str
    notes: tuple[str, ...] = ()
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """A table, whose first column names the rows.

    Args:
        title: what it is of; empty for the only one of a section.
        head: of each column.
        rows: a cell for each column.
        groups: titles over several columns of the head, with the number of columns; none, or they add up to all.
        note: what has to be known to read it.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    groups: tuple[tuple[str, int], ...] = ()
    note: str = ""


def main_table(analysis: Analysis) -> Table:
    """Return the paper's figures beside ours: a row for each model, three columns for each metric.

    A metric that the paper has no figure of has one column, and says so.
    """
    metrics = analysis.results.metrics
    published = {key for model in analysis.results.models for key in model.published}
    head, groups = ["model"], [("", 1)]
    for metric in metrics:
        columns = ("paper", "ours", f"ours {MINUS} paper") if metric.key in published else ("ours",)
        head += columns
        title = _direction(metric) + ("" if metric.key in published else "; none published of these")
        groups.append((title, len(columns)))
    best = {metric.key: analysis.best(metric) for metric in metrics}
    rows = []
    for model in analysis.results.models:
        row = [_model_cell(analysis, model)]
        for metric in metrics:
            cells = _paper_and_ours(analysis, model, metric, model.key in best[metric.key])
            row += cells if metric.key in published else cells[1:2]
        rows.append(tuple(row))
    return Table("", tuple(head), tuple(rows), tuple(groups), _main_note(analysis))


def fold_table(analysis: Analysis, metric: Metric) -> Table:
    """Return the figures of a metric by fold: a row for each model, with the paper's where it has them."""
    folds = analysis.folds
    rows = [
        (_model_cell(analysis, model), *(_fold_cell(analysis, model, metric, fold) for fold in folds))
        for model in analysis.results.models
    ]
    note = " ".join(part for part in (_plain_note(metric), _published_note(analysis, metric)) if part)
    return Table(heading(metric), ("model", *(f"fold {fold}" for fold in folds)), tuple(rows), note=note)


def structure_table(analysis: Analysis, metric: Metric) -> Table:
    """Return the figures of a metric by structure: a column for each model."""
    structures = analysis.samples.structures(metric.key, analysis.results.structures)
    rows = [
        (Cell(structure), *(_structure_cell(analysis, model, metric, structure) for model in analysis.results.models))
        for structure in structures
    ]
    unscored = [structure for structure in analysis.results.structures if structure not in structures]
    note = _plain_note(metric) + (f" No model has a score of {', '.join(unscored)}." if unscored else "")
    return Table(heading(metric), ("structure", *analysis.titles.values()), tuple(rows), note=note)


def comparison_table(analysis: Analysis, metric: Metric, comparisons: Sequence[Comparison], title: str) -> Table:
    """Return pairs of models, each on the cases that both have.

    Args:
        analysis: what they are of.
        metric: what they are compared by.
        comparisons: the pairs.
        title: of the table.
    """
    rows = tuple(_comparison_row(analysis, metric, one) for one in comparisons)
    return Table(title, ("second", "first", "cases (subjects)", "difference", "95 % interval", "p", "p (Holm)"), rows)


def comparison_note(analysis: Analysis, metric: Metric) -> str:
    """Say how pairs of models were compared by a metric, and which could not be."""
    pairs = analysis.comparisons[metric.key]
    tested = sum(one.resampled.p is not None for one in pairs)
    kinds = {
        "mean": "mean of second less first",
        "auroc": "AUROC of the second less that of the first",
        "maximum": "greatest value of the second's mean curve less that of the first's",
        "average_precision": "the second's of all cases' pixels less the first's",
    }
    scored = analysis.whole(metric.key)
    missing = [title for key, title in analysis.titles.items() if key not in scored]
    note = (
        f"Difference: {kinds[metric.statistic]}, on the cases that both have. Interval and p: {_RESAMPLES:,} resamples "
        f"of whole subjects, the same for both; p is never below {2 / (_RESAMPLES + 1):.3f}. Holm's correction is over "
        f"{counted(tested, 'tested pair')} of this metric."
    )
    return note + (f" Not compared, as there are no scores: {', '.join(missing)}." if missing else "")


def untested_words(one: Comparison) -> str:
    """Say why a pair of models has neither interval nor p; nothing where it has."""
    if one.difference is None:
        return _ONE_CLASS
    if one.resampled.p is not None:
        return ""
    return f"fewer than {LEAST_SUBJECTS} subjects" if one.subjects < LEAST_SUBJECTS else "no resample has a value"


def _model_cell(analysis: Analysis, model: Model) -> Cell:
    progress = analysis.progress[model.key]
    words = () if progress.state is State.DONE else (progress.words,)
    return Cell(model.title, words, "partial" if words else "")


def _paper_and_ours(analysis: Analysis, model: Model, metric: Metric, best: bool) -> tuple[Cell, Cell, Cell]:
    published = model.published.get(metric.key)
    value = analysis.value(model.key, metric.key)
    ours = _ours(analysis, model, metric, best)
    if published is None:
        return Cell("none published", mark="missing"), ours, Cell("none published", mark="missing")
    where = (published.where,) if published.where else ()
    paper = Cell(paper_figure(published, metric.decimals), where)
    if value is None:
        return paper, ours, Cell(ours.text, mark="missing")
    partial = "" if (model.key, metric.key) in analysis.figures else analysis.partial(model.key, metric.key)
    apart = Cell(signed(value - published.value, metric.decimals), (partial,) if partial else ())
    return paper, ours, apart


def _ours(analysis: Analysis, model: Model, metric: Metric, best: bool) -> Cell:
    if (figure := analysis.figures.get((model.key, metric.key))) is not None:
        return Cell(number(figure.value, metric.decimals), _repeats(figure, metric), "best" if best else "")
    summary = analysis.main.get((model.key, metric.key))
    if summary is None:
        return Cell(missing_words(analysis, model, metric), mark="missing")
    partial = analysis.partial(model.key, metric.key)
    notes = [bounds(summary, metric), _count(summary)] if summary.value is not None else [_count(summary)]
    mark = "best" if best else "partial" if partial else "missing" if summary.value is None else ""
    return Cell(spread(summary, metric), tuple(notes) + ((partial,) if partial else ()), mark)


def missing_words(analysis: Analysis, model: Model, metric: Metric) -> str:
    """Say why a model has no figure by a metric: it is not done, of one class or by structure only, or not measured."""
    if (model.key, metric.key) in analysis.main:
        return _ONE_CLASS
    progress = analysis.progress[model.key]
    any_score = any(score.model == model.key for score in analysis.results.scores)
    counted_or_timed = any(key == metric.key for _, key in analysis.figures)
    if progress.state is not State.DONE and (counted_or_timed or not any_score):
        return progress.words
    if any(score.metric == metric.key and score.model == model.key for score in analysis.results.scores):
        return "by structure only"
    return _NOT_MEASURED


def _repeats(figure: Figure, metric: Metric) -> tuple[str, ...]:
    if figure.repeats is None or figure.low is None or figure.high is None:
        return ("counted exactly",)
    return (f"{interval(figure.low, figure.high, metric.decimals)}", f"median of {counted(figure.repeats, 'repeat')}")


def _fold_cell(analysis: Analysis, model: Model, metric: Metric, fold: int) -> Cell:
    jobs = [job for job in analysis.results.jobs if job.model == model.key and job.fold == fold]
    state = state_of(jobs)
    summary = analysis.fold_summary(model.key, metric.key, fold)
    if summary is not None:
        cell = _small(summary, metric, () if state is State.DONE else (f"partial: {state}",))
        # Before what is partial, which a page sets apart by its place at the end.
        return replace(cell, notes=(*_published_of_fold(model, metric, fold, summary), *cell.notes))
    return Cell(_NOT_MEASURED if state is State.DONE else str(state), mark="missing")


def _published_of_fold(model: Model, metric: Metric, fold: int, summary: Summary) -> tuple[str, ...]:
    published = model.published_folds.get(metric.key, {}).get(fold)
    if published is None:
        return ()
    paper = f"paper {paper_figure(published, metric.decimals)}"
    if summary.value is None:
        return (paper,)
    return paper, f"ours {MINUS} paper {signed(summary.value - published.value, metric.decimals)}"


def _published_note(analysis: Analysis, metric: Metric) -> str:
    """Say where the paper's figures of folds are from, and what has to be known of them."""
    places = [
        f"{model.title}, {listed(list(dict.fromkeys(one.where for one in model.published_folds[metric.key].values())))}"
        for model in analysis.results.models
        if metric.key in model.published_folds
    ]
    if not places:
        return ""
    return " ".join(part for part in (f"Paper: {'; '.join(places)}.", analysis.results.fold_note) if part)


def _structure_cell(analysis: Analysis, model: Model, metric: Metric, structure: str) -> Cell:
    summary = analysis.structure_summary(model.key, metric.key, structure)
    if summary is None:
        scored = any(score.model == model.key for score in analysis.results.scores)
        progress = analysis.progress[model.key]
        return Cell(_NOT_MEASURED if scored or progress.state is State.DONE else str(progress.state), mark="missing")
    partial = "" if analysis.progress[model.key].state is State.DONE else "partial"
    return _small(summary, metric, (partial,) if partial else ())


def _small(summary: Summary, metric: Metric, notes: tuple[str, ...]) -> Cell:
    mark = "partial" if notes else "missing" if summary.value is None else ""
    return Cell(f"{spread(summary, metric)} ({summary.cases:,})", notes, mark)


def _comparison_row(analysis: Analysis, metric: Metric, one: Comparison) -> tuple[Cell, ...]:
    pair = [Cell(analysis.titles[key]) for key in (one.second, one.first)]
    partial = any(analysis.partial(key, metric.key) for key in (one.first, one.second))
    count = Cell(
        f"{one.cases:,} ({one.subjects:,})", ("partial",) if partial else (), mark="partial" if partial else ""
    )
    if one.difference is None:
        return *pair, count, *[Cell(untested_words(one), mark="missing")] * 4
    apart = Cell(signed(one.difference, metric.decimals))
    found = one.resampled
    if found.p is None or found.low is None or found.high is None or one.corrected is None:
        return *pair, count, apart, *[Cell(untested_words(one), mark="missing")] * 3
    texts = (interval(found.low, found.high, metric.decimals, sign=True), p_value(found.p), p_value(one.corrected))
    return *pair, count, apart, *map(Cell, texts)


def _count(summary: Summary) -> str:
    return f"{counted(summary.cases, 'case')}, {counted(summary.subjects, 'subject')}"


def _direction(metric: Metric) -> str:
    if metric.higher_is_better is None:
        return heading(metric)
    return f"{heading(metric)}, {'higher' if metric.higher_is_better else 'lower'} is better"


def _main_note(analysis: Analysis) -> str:
    parts = []
    scored = analysis.scored()
    if any(metric.statistic == "mean" for metric in scored):
        parts.append("Ours: mean ± standard deviation over the cases.")
    if any(metric.statistic == "auroc" for metric in scored):
        parts.append("AUROC is of all cases together, so it has an interval and no standard deviation.")
    if scored:
        parts.append(
            f"95 % CI: percentiles of {_RESAMPLES:,} bootstrap resamples of whole subjects; none for fewer than "
            f"{LEAST_SUBJECTS} subjects."
        )
    maxima = [metric.title for metric in scored if metric.statistic == "maximum"]
    if maxima:
        parts.append(
            f"{listed(maxima)}: the greatest value of the cases' mean curve over the thresholds; every resample has "
            "its own mean curve and its own maximum, so there is an interval and no standard deviation."
        )
    if any(metric.statistic == "average_precision" for metric in scored):
        parts.append("AUPRC is of all cases' pixels together, so it has an interval and no standard deviation.")
    averaged = [metric.title for metric in scored if metric.key in analysis.samples.averaged]
    if averaged:
        parts.append(f"{listed(averaged)} of a case: the mean over its structures that were scored.")
    if analysis.results.figures:
        parts.append("What is measured repeatedly: the median, with the least and the greatest.")
    if any(analysis.best(metric) for metric in analysis.results.metrics):
        parts.append("“best” marks the best figure of a column; partial ones do not compete.")
    return " ".join(parts)


def _plain_note(metric: Metric) -> str:
    kinds = {
        "mean": "Mean ± standard deviation over the cases",
        "auroc": "AUROC",
        "maximum": "Greatest value of the cases' mean curve",
        "average_precision": "Of all cases' pixels together",
    }
    return f"{kinds[metric.statistic]} (number of cases)."

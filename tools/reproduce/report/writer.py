"""Write a report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.data.atomic import write_csv, write_text
from tools.reproduce.report.analysis import Analysis
from tools.reproduce.report.checks import check_results
from tools.reproduce.report.document import write_document
from tools.reproduce.report.page import write_page
from tools.reproduce.report.tables import missing_words, untested_words
from tools.reproduce.report.words import printable
from tools.reproduce.results import Metric, Model, Results

__all__ = ["write_report"]

_SCORES = ("model", "fold", "case", "subject", "structure", "metric", "value", "truth")
_TABLE = (
    "model", "title", "metric", "unit", "state", "folds", "folds_done", "paper", "paper_spread", "paper_where", "ours",
    "sd", "low", "high", "cases", "subjects", "repeats", "least", "greatest", "difference", "best", "partial",
    "missing",
)  # fmt: skip
_COMPARISONS = (
    "metric",
    "first",
    "second",
    "cases",
    "subjects",
    "difference",
    "low",
    "high",
    "p",
    "p_holm",
    "untested",
)


def write_report(results: Results, folder: Path) -> None:
    """Write ``index.html``, ``table.md``, ``table.csv``, ``comparisons.csv`` and ``scores.csv`` of a re-run table.

    All is put together before the first file is written; each file is written whole or not at all.

    Args:
        results: what the runs left, finished or not.
        folder: where the files shall be; made if it is not there.

    Raises:
        ValueError: no honest table can be made of the results (:mod:`tools.reproduce.report.checks`).
        InputError: a file cannot be written.
    """
    check_results(results)
    analysis = Analysis(results)
    page, document = write_page(analysis), write_document(analysis)
    table, comparisons = list(_table_rows(analysis)), list(_comparison_rows(analysis))
    # A case's maximum is no part of the maximum of the mean curve: nobody is to take means of these.
    scores = [_plain(vars(score)) for score in results.scores if score.curve is None]
    write_csv(folder / "scores.csv", scores, _SCORES)
    write_csv(folder / "comparisons.csv", comparisons, _COMPARISONS)
    write_csv(folder / "table.csv", table, _TABLE)
    write_text(folder / "table.md", document)
    write_text(folder / "index.html", page)


def _table_rows(analysis: Analysis) -> Iterator[dict[str, Any]]:
    for model in analysis.results.models:
        for metric in analysis.results.metrics:
            yield _plain(_table_row(analysis, model, metric))


def _table_row(analysis: Analysis, model: Model, metric: Metric) -> dict[str, Any]:
    progress, value = analysis.progress[model.key], analysis.value(model.key, metric.key)
    row = {"model": model.key, "title": model.title, "metric": metric.key, "unit": metric.unit}
    row |= {"state": progress.state.value, "folds": len(progress.folds), "folds_done": len(progress.done)}
    row["missing"] = missing_words(analysis, model, metric) if value is None else ""
    row |= {"ours": value, "best": int(model.key in analysis.best(metric))}
    if (published := model.published.get(metric.key)) is not None:
        row |= {"paper": published.value, "paper_spread": published.spread, "paper_where": published.where}
        row |= {"difference": None if value is None else value - published.value}
    if (summary := analysis.main.get((model.key, metric.key))) is not None:
        row |= {key: getattr(summary, key) for key in ("sd", "low", "high", "cases", "subjects")}
        row |= {"partial": analysis.partial(model.key, metric.key)}
    if (figure := analysis.figures.get((model.key, metric.key))) is not None:
        row |= {"repeats": figure.repeats, "least": figure.low, "greatest": figure.high}
    return row


def _comparison_rows(analysis: Analysis) -> Iterator[dict[str, Any]]:
    for pairs in analysis.comparisons.values():
        for one in pairs:
            found = one.resampled
            row = vars(one) | {"low": found.low, "high": found.high, "p": found.p, "p_holm": one.corrected}
            row["untested"] = untested_words(one)
            yield _plain(row)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose texts can be written as UTF-8."""
    return {key: printable(value) if isinstance(value, str) else value for key, value in row.items()}

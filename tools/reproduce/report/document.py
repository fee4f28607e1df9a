"""The Markdown tables of a report, to be kept with a repository's documents."""

from __future__ import annotations

from tools.reproduce.report.analysis import Analysis
from tools.reproduce.report.markdown import code_block, escaped, table_lines
from tools.reproduce.report.page import unfinished_words
from tools.reproduce.report.tables import (
    Cell,
    Table,
    comparison_note,
    comparison_table,
    fold_table,
    main_table,
    structure_table,
)
from tools.reproduce.report.words import counted, duration, heading
from tools.reproduce.results import Job, State

__all__ = ["write_document"]


def write_document(analysis: Analysis) -> str:
    """Return the tables as Markdown.

    Args:
        analysis: all that they state.
    """
    results, scored = analysis.results, analysis.scored()
    main = main_table(analysis)
    lines = [f"# {escaped(results.title)}", "", f"Paper: {escaped(results.paper)}", "", *code_block(results.command)]
    unfinished = unfinished_words(analysis)
    cautions = [f"Not complete: {unfinished}"] * bool(unfinished) + list(results.cautions)
    if cautions:
        lines += ["", "**What this run cannot show**", "", *(f"- {escaped(caution)}" for caution in cautions)]
    lines += ["", *table_lines(main), "", escaped(main.note)]
    lines += [f"\n- {escaped(model.title)}: {escaped(model.note)}" for model in results.models if model.note]
    if analysis.folds:
        lines += _section("By fold", [fold_table(analysis, metric) for metric in scored if analysis.whole(metric.key)])
    structured = [one for one in scored if analysis.samples.structures(one.key, results.structures)]
    lines += _section("By structure", [structure_table(analysis, metric) for metric in structured])
    lines += _comparisons(analysis)
    lines += _failed([job for job in results.jobs if job.state is not State.DONE])
    lines += _hardware(results.jobs)
    lines += _weights(analysis)
    for title, entries in (("Data", results.data), ("Seeds", results.seeds), ("Versions", results.versions)):
        if entries:
            lines += ["", f"## {title}", "", *(f"- {escaped(key)}: {escaped(value)}" for key, value in entries.items())]
    return "\n".join(lines) + "\n"


def _section(title: str, tables: list[Table]) -> list[str]:
    lines = ["", f"## {title}"] if tables else []
    for table in tables:
        lines += ["", f"**{escaped(table.title)}**. {escaped(table.note)}", "", *table_lines(table)]
    return lines


def _comparisons(analysis: Analysis) -> list[str]:
    lines = []
    for metric in analysis.scored():
        if pairs := analysis.comparisons.get(metric.key):
            note = escaped(comparison_note(analysis, metric))
            table = comparison_table(analysis, metric, pairs, heading(metric))
            lines += ["", f"**{escaped(table.title)}**. {note}", "", *table_lines(table, 2)]
    return ["", "## Models compared", *lines] if lines else []


def _failed(jobs: list[Job]) -> list[str]:
    if not jobs:
        return []
    lines = ["", "## Jobs that are not done"]
    for job in jobs:
        error = f": {escaped(job.error or 'it left no error line')}" if job.state is State.FAILED else ""
        lines += [
            "",
            f"- {escaped(job.key)}, {job.state}{error}",
            "",
            *(f"  {line}" for line in code_block(job.command)),
        ]
    return lines


def _hardware(jobs: tuple[Job, ...] | list[Job]) -> list[str]:
    done = [job for job in jobs if job.state is State.DONE]
    machines: dict[str, list[Job]] = {}
    for job in done:
        machines.setdefault(job.machine or "not known", []).append(job)
    lines = []
    for machine, of_machine in machines.items():
        for step in dict.fromkeys(job.step for job in of_machine):
            known = [job.seconds for job in of_machine if job.step == step and job.seconds is not None]
            count = sum(job.step == step for job in of_machine)
            took = f"{duration(sum(known))} in all" if len(known) == count else "time not known"
            lines.append(f"- {escaped(machine)}: {counted(count, 'job')} of the step {escaped(step)}, {took}")
    return ["", "## Hardware and time", "", *lines] if lines else []


def _weights(analysis: Analysis) -> list[str]:
    rows = tuple(
        (
            Cell(analysis.titles[job.model]),
            Cell("one split" if job.fold is None else str(job.fold)),
            Cell(job.selected_by or "not recorded"),
            Cell(job.weights_sha256 or "not recorded"),
        )
        for job in analysis.results.jobs
        if job.step == "train" and job.state is State.DONE
    )
    table = Table("", ("model", "fold", "weights chosen by", "SHA-256"), rows)
    return ["", "## Weights", "", *table_lines(table, 4)] if rows else []

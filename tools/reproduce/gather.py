"""From the folders of a table's runs to all that its report is made of."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from common.data.provenance import sha256_of
from common.handlers.training_recorder import HISTORY
from tools.bundle_process import shown
from tools.reproduce.plan import Options, PlannedJob, chosen_rows, job_key
from tools.reproduce.results import Figure, Job, Results, Score, State
from tools.reproduce.runner import read_record
from tools.reproduce.splits import Splits
from tools.reproduce.table import Table

__all__ = ["gather"]

_LIBRARIES = ("torch", "monai", "numpy", "scipy", "nibabel", "SimpleITK")


def gather(
    table: Table, options: Options, jobs: Mapping[str, PlannedJob], splits: Splits | None, command: str
) -> Results:
    """Collect what the runs have left, done or not.

    Args:
        table: the table.
        options: what was asked for.
        jobs: the plan.
        splits: the division of the data set; None for a table without one.
        command: that was typed.
    """
    rows = chosen_rows(table, options)
    scores: list[Score] = []
    figures: list[Figure] = []
    pictures: dict[tuple[str, int | None, str], Path] = {}
    folds: Sequence[int | None] = options.folds if table.num_folds > 1 else [None]
    for row in rows:
        of_row: list[Figure] = []
        for fold in folds:
            name = row.evaluation if "/" in row.evaluation else f"{row.model.key}/{row.evaluation}"
            job = jobs[job_key(*name.split("/"), fold)]
            if read_record(job.folder).get("state") == "done":
                found, other = table.read(row, job.folder, fold)
                scores += found
                of_row += other
                made = table.pictures(job.folder)
                pictures |= {(row.model.key, fold, case): path for case, path in made.items()}
        figures += _over_folds(of_row)
    return Results(
        table=table.name,
        title=table.title,
        paper=table.paper,
        command=command,
        models=[row.model for row in rows],
        metrics=table.metrics,
        scores=scores,
        figures=figures,
        jobs=[_job(table, options, jobs, key, _owner(jobs, key, [row.model.key for row in rows])) for key in jobs],
        pictures=pictures,
        picture_note=table.picture_note,
        structures=_seen(table, scores),
        data=_data(options, splits),
        splits={}
        if splits is None
        else {f: {p: list(c) for p, c in parts.items()} for f, parts in splits.folds.items()},
        never_tested=[] if splits is None else splits.never_tested,
        fold_note=table.fold_note,
        cautions=_cautions(table, options, splits),
        versions={name: version(name) for name in _LIBRARIES},
        seeds={key: options.seed for key, job in jobs.items() if job.step.trains},
    )


def _over_folds(figures: Sequence[Figure]) -> list[Figure]:
    """Return a figure for each metric: of several folds the median, with its range."""
    found = []
    for metric in dict.fromkeys(figure.metric for figure in figures):
        same = [figure for figure in figures if figure.metric == metric]
        values = sorted(figure.value for figure in same)
        if len(values) == 1:
            found.append(same[0])
        else:
            middle = len(values) // 2
            median = values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2
            found.append(Figure(same[0].model, metric, median, len(values), values[0], values[-1]))
    return found


def _seen(table: Table, scores: Sequence[Score]) -> list[str]:
    present = {score.structure for score in scores}
    return [name for name in table.structures if name in present]


def _owner(jobs: Mapping[str, PlannedJob], key: str, shown: Sequence[str]) -> str:
    """Return whose run it is: of a row that is not shown, the first shown one that needs it."""
    own = jobs[key].row.model.key
    if own in shown:
        return own
    users = (_owner(jobs, other, shown) for other, job in jobs.items() if key in job.needs)
    wanted = next((user for user in users if user in shown), None)
    # A row without runs of its own is read from another one's evaluation.
    readers = (job.row.model.key for job in jobs.values() if job.row.model.key in shown)
    return wanted or next(readers, shown[0])


def _job(table: Table, options: Options, jobs: Mapping[str, PlannedJob], key: str, model: str) -> Job:
    job = jobs[key]
    record = read_record(job.folder)
    state = State(record.get("state", "unfinished"))
    done = state is State.DONE
    weights = job.folder / job.step.weights
    if options.weights == "last":
        weights = weights.with_name(weights.name.replace("model.pt", "model_last.pt"))
    history = weights.parent / HISTORY
    trains = job.step.trains
    return Job(
        key=key,
        model=model,
        fold=job.fold,
        step="train" if trains else "evaluate",
        state=state,
        command=shown(job.words),
        error=record.get("error", ""),
        seconds=record.get("seconds") if done else None,
        machine=record.get("machine", "") if done else "",
        selected_by=_selected_by(history, options.weights) if trains and done else "",
        weights_sha256=sha256_of(weights) if trains and done and weights.is_file() else "",
        history=history if trains and history.is_file() else None,
    )


def _selected_by(history: Path, weights: str) -> str:
    """Say which figure chose the weights, as :class:`common.handlers.TrainingRecorder` chooses them."""
    with open(history, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    metric = next((name for name in rows[0] if name.startswith("val_")), "") if rows else ""
    scored = [(float(row[metric]), int(row["epoch"])) for row in rows if metric and row[metric]]
    scored = [pair for pair in scored if not math.isnan(pair[0])]
    if weights == "last" or not scored:
        return f"last epoch ({len(rows)})"
    best = max(scored, key=lambda pair: (pair[0], -pair[1]))
    return f"best {metric.removeprefix('val_')} of the validation part, {best[0]:.4f} (epoch {best[1]} of {len(rows)})"


def _data(options: Options, splits: Splits | None) -> dict[str, str]:
    if splits is None:
        return {}
    return {
        "data set": "phantoms" if options.quick else str(options.dataset_dir and Path(options.dataset_dir).name),
        "cases": str(len(splits.subjects)),
        "subjects": str(len(set(splits.subjects.values()))),
        "SHA-256 of the list (cases, subjects, pictures)": splits.list_sha256,
        "SHA-256 of the splits": splits.sha256,
        "scored part": options.part,
    }


def _cautions(table: Table, options: Options, splits: Splits | None) -> list[str]:
    found = []
    if options.quick:
        found.append(
            "Quick run on phantoms, with tiny networks and trainings: it shows that everything works, and nothing else."
        )
    if options.max_epochs is not None:
        found.append(f"Every training was shortened to {options.max_epochs} epochs (--max_epochs).")
    if options.overlays:
        names = ", ".join(Path(name).name for name in options.overlays)
        found.append(f"The paper's settings were changed by {names} (--overlay).")
    if options.ids:
        found.append("Settings were changed: " + ", ".join(f"{k}={v}" for k, v in options.ids.items()) + " (--set).")
    if splits is not None and table.num_folds > 1 and len(options.folds) < table.num_folds:
        found.append(
            f"{len(options.folds)} of {table.num_folds} folds were run: the spread between trainings is not shown."
        )
    if options.part != "test":
        found.append(f"Scored is the {options.part} part; nothing was chosen on it, the weights are the last epoch's.")
    found.append("One training of each model and fold: another seed gives other figures.")
    return found + list(table.cautions)

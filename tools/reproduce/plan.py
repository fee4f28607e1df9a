"""From a table to the runs that it needs: their commands, their folders, and what each waits for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.engines.launch import check_ids
from common.errors import InputError
from tools.bundle_process import training_command
from tools.configuration import read_configuration
from tools.reproduce.table import Row, Step, Table

__all__ = ["STATE", "Options", "PlannedJob", "chosen_rows", "folder_of", "job_key", "plan_jobs", "training_needs"]

_RESERVED = ("output_dir", "fold", "resume", "dataset_dir", "checkpoint", "part", "seed", "max_epochs")
STATE = "training_state.pt"


@dataclass(frozen=True)
class Options:
    """What the user asked for.

    Attributes:
        output: the table's folder.
        bundles: the folder with the bundles.
        dataset_dir: the data set; None with ``quick``, whose phantoms lie in ``output``.
        folds: which of the folds.
        models: which rows, by key; empty: all.
        max_epochs: of each training; None: the configuration's.
        overlays: configuration files that are laid over each training and evaluation, before what makes the row.
        ids: set for all trainings and evaluations that have them.
        part: which part is scored, ``test`` or ``validation``.
        weights: ``best`` on the validation part, or those of the ``last`` epoch.
        seed: of trainings and splits.
        processes: GPUs of one training.
        quick: everything tiny, on phantoms.
    """

    output: Path
    bundles: Path
    dataset_dir: Path | None = None
    folds: Sequence[int] = (0,)
    models: Sequence[str] = ()
    max_epochs: int | None = None
    overlays: Sequence[str] = ()
    ids: Mapping[str, str] = field(default_factory=dict)
    part: str = "test"
    weights: str = "best"
    seed: int = 0
    processes: int = 1
    quick: bool = False

    def data_ids(self, table: Table) -> dict[str, Any]:
        """Return the ids that say what the runs of a table work on."""
        if not table.data:
            return {}
        if self.quick:
            phantoms = str(self.output / "phantoms")
            return {"phantom_dir": phantoms, "dataset_dir": phantoms, **table.kind.phantoms}
        return {"dataset_dir": str(self.dataset_dir)}


@dataclass(frozen=True)
class PlannedJob:
    """One run.

    Attributes:
        key: ``ROW/fold_K/STEP``.
        row: whose it is.
        step: which of its steps.
        fold: of the cross-validation; None where there is one split.
        folder: where to.
        words: behind ``python``.
        needs: keys of the runs that have to be done before.
    """

    key: str
    row: Row
    step: Step
    fold: int | None
    folder: Path
    words: Sequence[str]
    needs: Sequence[str]

    def resuming(self) -> list[str]:
        """Return the words, which go on with a training that was interrupted where there is one."""
        interrupted = self.step.trains and any(self.folder.rglob(STATE))
        return [*self.words, *(["--resume", "true"] if interrupted else [])]


def job_key(row: str, step: str, fold: int | None) -> str:
    """Return how a run is called."""
    return f"{row}/{'single' if fold is None else f'fold_{fold}'}/{step}"


def folder_of(output: Path, key: str) -> Path:
    """Return where a run's results lie."""
    return output / "jobs" / key


def chosen_rows(table: Table, options: Options) -> list[Row]:
    """Return the rows that were asked for.

    Raises:
        InputError: the table has no such row.
    """
    known = [row.model.key for row in table.rows]
    if unknown := [key for key in options.models if key not in known]:
        raise InputError(f"--models {unknown[0]}", f"is no row of {table.name}", f"choose of {','.join(known)}")
    wanted = options.models or (options.quick and table.quick_rows) or known
    return [row for row in table.rows if row.model.key in wanted]


def plan_jobs(table: Table, options: Options) -> dict[str, PlannedJob]:
    """Plan the runs of a table.

    Args:
        table: the table.
        options: what was asked for.

    Returns:
        The runs by their key, each behind those that it needs.

    Raises:
        InputError: a row or an id does not exist, or an id is one that the plan itself sets.
    """
    if reserved := [name for name in options.ids if name in _RESERVED]:
        raise InputError(f"--set {reserved[0]}", "is what the plan itself sets", "leave it out")
    for file in options.overlays:
        read_configuration(file)
    jobs: dict[str, PlannedJob] = {}
    used: set[str] = set()
    folds = options.folds if table.num_folds > 1 else [None]
    for fold in folds:
        for row in chosen_rows(table, options):
            wanted = [step.name for step in row.steps]
            _add(table, options, [f"{row.model.key}/{name}" for name in wanted], fold, jobs, used)
            if "/" in row.evaluation:
                _add(table, options, [row.evaluation], fold, jobs, used)
    if unused := [name for name in options.ids if name not in used]:
        raise InputError(f"--set {unused[0]}", f"is no id of any run of {table.name}", "see the bundle's train.json")
    return jobs


def _add(
    table: Table, options: Options, steps: Sequence[str], fold: int | None, jobs: dict[str, PlannedJob], used: set[str]
) -> None:
    for name in steps:
        row, step = table.step(name)
        key = job_key(row.model.key, step.name, fold)
        if key in jobs:
            continue
        before = [need if "/" in need else f"{row.model.key}/{need}" for need in step.needs()]
        _add(table, options, before, fold, jobs, used)
        needs = {need: job_key(*full.split("/"), fold) for need, full in zip(step.needs(), before, strict=True)}
        folder = folder_of(options.output, key)
        places = {need: str(folder_of(options.output, other)) for need, other in needs.items()} | {"this": str(folder)}
        words = _words(table, options, step, places, folder, fold, used)
        jobs[key] = PlannedJob(key, row, step, fold, folder, words, list(needs.values()))


def _words(
    table: Table,
    options: Options,
    step: Step,
    places: Mapping[str, str],
    folder: Path,
    fold: int | None,
    used: set[str],
) -> list[str]:
    if step.program:
        arguments = [*step.arguments, *(step.quick_arguments if options.quick else ())]
        return ["-m", step.program, *(text.format_map(places) for text in arguments)]
    configs = options.bundles / table.bundle / "configs"
    first, *over = step.files
    files = [str(configs / f"{first}.json"), *options.overlays, *(str(configs / f"{name}.json") for name in over)]
    if step.trains and options.processes > 1:
        files.append(str(configs / "multi_gpu_train.json"))
    ids: dict[str, Any] = options.data_ids(table)
    if options.quick:
        ids |= {name: value for name, value in table.quick.items() if _knows(files, name)}
    if fold is not None:
        ids["fold"] = fold
    for name, value in options.ids.items():
        if _knows(files, name):
            ids[name] = value
            used.add(name)
    ids |= {name: value.format_map(places) if isinstance(value, str) else value for name, value in step.ids.items()}
    ids |= {"seed": options.seed, "output_dir": str(folder)}
    if step.trains:
        if options.max_epochs is not None:
            ids |= dict.fromkeys(step.epochs, options.max_epochs)
    else:
        ids["part"] = options.part
    if options.weights == "last":  # what a training starts from is chosen as what is scored, or it would be seen there
        for name in {"checkpoint", "init_checkpoint"} & step.ids.keys():
            ids[name] = ids[name].replace("model.pt", "model_last.pt")
    words = training_command(files, ids)
    check_ids(words[2:])
    if step.trains and options.processes > 1:
        return ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={options.processes}", *words]
    return words


def _knows(files: Sequence[str], name: str) -> bool:
    top = name.split("#")[0]
    return any(top in read_configuration(file) for file in files)


def training_needs(jobs: Mapping[str, PlannedJob], key: str) -> list[PlannedJob]:
    """Return the trainings whose weights an evaluation was made with."""
    return [jobs[need] for need in jobs[key].needs if jobs[need].step.trains]

"""Re-run a table of one of the papers, on any data set of the right kind: ``python -m tools.reproduce TABLE``.

TABLE is one of safnet-comparison, safnet-ablation, safnet-augmentation, sshsnet-comparison, funet-comparison,
funet-ablation, bess-classifiers, bess-segmenters, bess-cost, bess-two-stage.

The table's trainings and evaluations are runs of the bundles, each in a folder of its own below OUTPUT/jobs with its
log. Runs that are done are kept; the same command with --resume goes on, also from another machine that sees the same
folder. OUTPUT/report then holds a page (index.html), a Markdown table and every case's figures (CSV); it is written
as well where runs failed or are not finished, and says so. The exit status is 0 when all runs are done, 1 after an
error or a failed run, and 130 on Ctrl-C.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from common.errors import InputError
from tools.arguments import OneLineParser
from tools.benchmark.arguments import positive
from tools.bundle_process import shown
from tools.configuration import ids_in_words
from tools.reproduce.gather import gather
from tools.reproduce.plan import Options, PlannedJob, plan_jobs
from tools.reproduce.report import write_report
from tools.reproduce.runner import Runner, read_record
from tools.reproduce.schedulers import run_with_ray, slurm_script
from tools.reproduce.splits import check_leaks, read_splits, store_splits
from tools.reproduce.table import Table
from tools.reproduce.tables import TABLES

_BUNDLES = Path(__file__).resolve().parents[2] / "bundles"


def _parser() -> OneLineParser:
    parser = OneLineParser("tools.reproduce", __doc__)
    parser.add_argument("table", metavar="TABLE", choices=TABLES, help=", ".join(TABLES))
    parser.add_argument("--dataset_dir", type=Path, help="the data set, as the bundle takes it")
    parser.add_argument("--output", type=Path, help="default: output/reproduce/TABLE")
    parser.add_argument("--folds", help="such as 0,1,2; default: all")
    parser.add_argument("--models", default="", help="rows of the table, such as safnet,unet; default: all")
    parser.add_argument("--max_epochs", type=positive, help="of each training; default: the paper's")
    parser.add_argument(
        "--overlay", action="append", default=[], metavar="FILE", help="laid over the bundle's train.json"
    )
    parser.add_argument("--set", action="append", default=[], metavar="ID=VALUE", help="an id of all runs that have it")
    parser.add_argument("--part", choices=("test", "validation"), default="test", help="which is scored; default: test")
    parser.add_argument(
        "--weights", choices=("best", "last"), default="best", help="best on validation, or last epoch's"
    )
    parser.add_argument("--seed", type=int, default=0, help="of trainings and splits; default: 0")
    parser.add_argument("--jobs", type=positive, default=1, help="how many runs at once; default: 1")
    parser.add_argument("--gpus_per_job", type=positive, default=1, help="of each training, by torchrun; default: 1")
    parser.add_argument("--resume", action="store_true", help="go on with what OUTPUT holds")
    parser.add_argument("--quick", action="store_true", help="everything tiny, on phantoms: minutes on a CPU")
    parser.add_argument("--only", action="append", default=[], metavar="RUN", help="of the runs, as --list names them")
    parser.add_argument("--list", action="store_true", help="print the runs with their commands, and end")
    parser.add_argument("--slurm", action="store_true", help="print a script that submits the runs to SLURM, and end")
    parser.add_argument("--ray", action="store_true", help="hand the runs to a Ray cluster")
    parser.add_argument("--report", action="store_true", help="run nothing, write the report of what there is")
    return parser


def _options(arguments, table: Table) -> Options:
    output = arguments.output or Path("output/reproduce") / table.name
    if arguments.quick and arguments.dataset_dir:
        raise InputError("--quick", "runs on phantoms", "leave out --quick or --dataset_dir")
    if table.data and not arguments.quick:
        if not arguments.dataset_dir:
            raise InputError(table.name, "needs a data set", "pass --dataset_dir, or --quick for phantoms")
        if not arguments.dataset_dir.is_dir():
            raise InputError(arguments.dataset_dir, "is no folder", "pass --dataset_dir with the data set's folder")
    for file in arguments.overlay:
        if not Path(file).is_file():
            raise InputError(f"--overlay {file}", "is not there", "pass a configuration file such as half_size.json")
    ids = ids_in_words(arguments.set, "batch_size=2")
    weights = "last" if arguments.part == "validation" else arguments.weights
    return Options(
        output,
        _short(_BUNDLES),
        arguments.dataset_dir,
        _folds(arguments.folds, table, arguments.quick),
        [name for name in arguments.models.split(",") if name],
        arguments.max_epochs,
        arguments.overlay,
        ids,
        arguments.part,
        weights,
        arguments.seed,
        arguments.gpus_per_job,
        arguments.quick,
    )


def _short(path: Path) -> Path:
    """Return a path as it is typed from here, for commands that people read."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _folds(text: str | None, table: Table, quick: bool) -> list[int]:
    if text is None:
        return [0] if quick else list(range(table.num_folds))
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise InputError(f"--folds {text}", "are no numbers with commas", "pass some such as --folds 0,1")
    folds = sorted({int(word) for word in text.split(",")})
    if folds[-1] >= table.num_folds:
        raise InputError(
            f"--folds {text}", f"there is no fold {folds[-1]}", f"the folds are 0 to {table.num_folds - 1}"
        )
    return folds


def _check_output(output: Path, jobs: dict[str, PlannedJob], resume: bool) -> None:
    """Refuse a folder that holds other runs than these, or runs that nobody asked to go on with."""
    held = {key: read_record(job.folder) for key, job in jobs.items()}
    if not resume and any(held.values()):
        raise InputError(output, "holds runs of this table", "pass --resume to go on with them, or another --output")
    for key, record in held.items():
        words = record.get("words")
        if words and words[: len(jobs[key].words)] != list(jobs[key].words):
            differs = next(
                (new for old, new in zip(words, jobs[key].words, strict=False) if old != new), "its settings"
            )
            raise InputError(
                output, f"holds {key} with other settings ({differs})", "pass the same, or another --output"
            )


def _say_what_there_is(jobs: dict[str, PlannedJob]) -> None:
    try:
        for key, job in jobs.items():
            state = read_record(job.folder).get("state", "not begun")
            print(f"{key}: {state}\n    {shown(job.words)}")
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough, as `head` has; Python would flush once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(argv: Sequence[str] | None = None) -> int:
    """Run, or go on with it, and write the report.

    Args:
        argv: the words behind ``python -m tools.reproduce``.

    Returns:
        The exit status.
    """
    typed = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser().parse_args(typed)
    table = TABLES[arguments.table]
    try:
        options = _options(arguments, table)
        jobs = plan_jobs(table, options)
        if unknown := [key for key in arguments.only if key not in jobs]:
            raise InputError(f"--only {unknown[0]}", "is no run of this table", "see --list")
        if arguments.list:
            _say_what_there_is(jobs)
            return 0
        if arguments.slurm:
            words = [word for word in typed if word not in ("--slurm", "--resume")]
            print(slurm_script(jobs, words, arguments.gpus_per_job), end="")
            return 0
        _check_output(options.output, jobs, arguments.resume or arguments.report)
        splits = read_splits(table, options) if table.data else None
        options.output.mkdir(parents=True, exist_ok=True)
        if splits is not None:
            check_leaks(splits)
            store_splits(splits, options.output)
        runner = Runner(jobs, arguments.jobs, arguments.gpus_per_job)
        status, failed = 0, []
        if not arguments.report:
            try:
                if arguments.ray:
                    failed = run_with_ray(runner, arguments.only, arguments.gpus_per_job)
                else:
                    failed = runner(arguments.only)
            except KeyboardInterrupt:
                print("interrupted; the same command with --resume goes on with it", file=sys.stderr)
                status = 130
        done = f"{sum(runner.is_done(key) for key in jobs)} of {len(jobs)} runs are done"
        if not arguments.only:  # else others are at work
            command = shlex.join(["python", "-m", "tools.reproduce", *typed])
            write_report(gather(table, options, jobs, splits, command), options.output / "report")
            done += f"; the report is {options.output / 'report' / 'index.html'}"
        print(done)
        for key in failed:
            record = read_record(jobs[key].folder)
            print(f"error: {key}: {record.get('error') or 'was not run'}; see {jobs[key].folder}", file=sys.stderr)
        return status or (1 if failed else 0)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)  # so that the runs end as well
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    sys.exit(main())

"""Measure SAFNet and SSHSNet beside SegResNet and nnU-Net's network on the same volumes: ``python -m tools.benchmark``.

The rows:

- ``safnet``: the bundle's own ``inference.json``, as its users run it: read, crop, normalize, one pass, invert, write.
- ``segresnet``, ``dynunet``: the same, with another network on the same grid. ``dynunet`` is laid out as nnU-Net plans
  it for that grid. Zeros fill up what their strides do not divide.
- ``segresnet_sliding``, ``dynunet_sliding``: nnU-Net's inference with its planned patch: resampling to the plan's
  spacing, windows that overlap by half with Gaussian weights, mirrored over all three axes (8 passes each),
  probabilities resampled back, the same writer (:mod:`tools.benchmark.nnunet_plan`,
  :mod:`tools.benchmark.nnunet_inference`). No fold ensemble, which would multiply the network's time by five.
- ``sshsnet``, ``sshsnet_fast``: that bundle's own ``inference.json``, over all windows and patches as the authors'
  program, and round the spine that stage 1 finds. With random weights everything looks like a spine to stage 1: what
  the fast mode then saves is the least that it can save. Pass weights.
- ``start``, ``command``: SAFNet's command line as a process, up to the first volume, and whole for one volume.

How: each model has a process of its own, in which all is built before; in each repeat all models take their turn. A
first run warms up and is left out, but for a run of more than a minute. What a run does once, whatever the number of
volumes, is left to ``start`` and ``command``: imports, checks, reading the weights. Hashes of files are kept within a
process, so they count in ``command`` only.

The weights are random, on which a network's time does not depend. That of the later steps does: on the embedded phantom
they go on with its known labels, as if the network had found them; on ``--volumes`` with noise.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from common.data.atomic import write_csv, write_json, write_text
from common.data.plan import LEARNED, read_plan
from common.engines import Precision
from common.errors import InputError
from tools.benchmark.arguments import OneLineParser, find_device, positive
from tools.benchmark.command import COMMANDS, Command
from tools.benchmark.machine import describe_machine, load
from tools.benchmark.models import MODELS
from tools.benchmark.nnunet_plan import make_plan
from tools.benchmark.report import COLUMNS, add_ratios, as_markdown, flat_rows, summarize
from tools.benchmark.volumes import Volumes, find_volumes, make_phantom
from tools.benchmark.worker import Job, Worker, WorkerError

_BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
_LONG = 60.0  # seconds; a first run that takes longer counts, since what warming up costs is not seen in it
_NAMES = (*MODELS, *COMMANDS)
_CLASSES = 18


def _sizes(text: str) -> tuple[int, int, int]:
    numbers = tuple(int(word) for word in text.strip("[]() ").split(","))
    if len(numbers) != 3 or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"expected three numbers such as 18,256,128, got {text!r}")
    return numbers


def _models(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in _NAMES]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(_NAMES)}")
    return [name for name in _NAMES if name in names]


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser("tools.benchmark", __doc__)
    parser.add_argument("--models", type=_models, default=list(_NAMES), help=f"of {','.join(_NAMES)}; default: all")
    parser.add_argument("--volumes", nargs="+", metavar="FILE", help="scans or folders; default: a phantom")
    parser.add_argument(
        "--phantom_size", type=_sizes, default=(512, 512, 15), help="columns,rows,slices; default: 512,512,15"
    )
    parser.add_argument("--checkpoint", help="SAFNet's weights; default: random")
    parser.add_argument("--sshsnet_checkpoint", help="SSHSNet's weights; default: random")
    parser.add_argument("--spatial_size", type=_sizes, help="SAFNet's grid; default: the weights' or the bundle's own")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N; default: cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="autocast; default: fp32")
    parser.add_argument("--threads", type=positive, help="of PyTorch on the CPU; default: the cores")
    parser.add_argument("--repeats", type=positive, default=5, help="default: 5")
    parser.add_argument(
        "--max_seconds", type=float, default=600.0, help="a model is not repeated once it took this long; default: 600"
    )
    parser.add_argument("--output", nargs="+", type=Path, default=[], help="files to write: .json, .csv or .md")
    return parser


def _checkpoints(arguments: argparse.Namespace) -> dict[str, str | None]:
    """Return the weights of each bundle."""
    given = {"safnet": ("--checkpoint", arguments.checkpoint)}
    given["sshsnet"] = ("--sshsnet_checkpoint", arguments.sshsnet_checkpoint)
    for option, path in given.values():
        if path is not None and not Path(path).is_file():
            raise InputError(path, "there are no weights", f"pass {option} with a file of weights")
    return {bundle: path for bundle, (_, path) in given.items()}


def _bundle_ids(checkpoints: dict[str, str | None], arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return for each bundle the ids that its weights were trained with, and for SAFNet the grid."""
    ids = {bundle: {} if path is None else read_plan(path) for bundle, path in checkpoints.items()}
    ids = {bundle: {name: value for name, value in plan.items() if name != LEARNED} for bundle, plan in ids.items()}
    if arguments.spatial_size:
        ids["safnet"]["spatial_size"] = list(arguments.spatial_size)
    return ids


def _measure(
    models: Sequence[Callable[[], dict[str, Any]]], repeats: int, max_seconds: float
) -> tuple[list[list[dict[str, Any]]], list[dict[str, Any] | None]]:
    """Let the models take turns.

    Returns:
        For each model what its runs gave, and its warm-up.
    """
    runs: list[list[dict[str, Any]]] = [[] for _ in models]
    warm_ups: list[dict[str, Any] | None] = [None] * len(models)
    for turn in range(repeats + 1):
        for i, model in enumerate(models):
            spent = sum(_seconds(run) for run in runs[i])
            if len(runs[i]) >= repeats or (runs[i] and spent > max_seconds):
                continue
            run = model()
            run["load"] = load()
            warms_up = turn == 0 and _seconds(run) < _LONG
            what = "warm-up" if warms_up else f"run {len(runs[i]) + 1}"
            print(f"{model.model}, {what}: {_seconds(run):.3g} s", file=sys.stderr, flush=True)
            if warms_up:
                warm_ups[i] = run
            else:
                runs[i].append(run)
    return runs, warm_ups


def _seconds(run: dict[str, Any]) -> float:
    return sum(volume["total"] for volume in run["volumes"])


def _benchmark(
    arguments: argparse.Namespace, folder: Path, command: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Measure.

    Returns:
        The rows, and what is to be known about the run.
    """
    device = find_device(arguments.device)
    Precision(arguments.precision, device)
    checkpoints = _checkpoints(arguments)
    ids = _bundle_ids(checkpoints, arguments)
    phantom = arguments.volumes is None
    volumes = make_phantom(folder / "phantom", arguments.phantom_size) if phantom else find_volumes(arguments.volumes)
    if arguments.threads:
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # for the processes that are started from here
    run: dict[str, Any] = {
        "command": command,
        "machine": describe_machine(device, arguments.threads),
        "precision": arguments.precision,
        "volumes": _describe(volumes, phantom),
        "weights": _weights(checkpoints, phantom),
        "plan": make_plan(volumes.median_spacing, volumes.median_shape, _CLASSES).__dict__,
        "load_before": load(),
    }
    with ExitStack() as stack:
        models = []
        for name in arguments.models:
            bundle = MODELS[name].bundle if name in MODELS else "safnet"
            job = Job(
                name,
                str(_BUNDLES / bundle),
                volumes,
                str(folder / name),
                str(device),
                arguments.precision,
                checkpoints[bundle],
                ids[bundle],
                arguments.threads,
            )
            model = Worker(job) if name in MODELS else Command(name, job)
            stack.callback(model.close)
            models.append(model)
        descriptions = [model.describe() for model in models]  # by now all are built
        runs, warm_ups = _measure(models, arguments.repeats, arguments.max_seconds)
    run["load_after"] = load()
    rows = [
        summarize(name, *measured)
        for name, *measured in zip(arguments.models, descriptions, runs, warm_ups, strict=True)
    ]
    add_ratios(rows)
    return rows, run


def _describe(volumes: Volumes, phantom: bool) -> str:
    shapes = ", ".join(sorted({"x".join(map(str, shape)) for shape in volumes.shapes}))
    spacing = " ".join(f"{value:.3g}" for value in volumes.spacings[0])
    return f"{'phantom, ' if phantom else ''}{len(volumes.items)} of {shapes} voxels (first: {spacing} mm)"


def _weights(checkpoints: dict[str, str | None], phantom: bool) -> str:
    given = [f"{bundle}'s weights: {path}" for bundle, path in checkpoints.items() if path is not None]
    what = "; ".join([*given, "random weights elsewhere" if given else "random weights"])
    later = "the phantom's own labels" if phantom else "noise"
    return f"{what}, on which a network's time does not depend; the steps after such a network work on {later}"


def main(argv: list[str] | None = None) -> int:
    """Measure and print the tables.

    Returns:
        0, or 1 after an error, which is one line on stderr.
    """
    words = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args(words)
    command = shlex.join(["python", "-m", "tools.benchmark", *words])
    try:
        for path in arguments.output:
            if path.suffix not in (".json", ".csv", ".md"):
                raise InputError(path, "is no known format", "let the name end in .json, .csv or .md")
        with tempfile.TemporaryDirectory(prefix="benchmark_") as folder:
            rows, run = _benchmark(arguments, Path(folder), command)
        report = as_markdown(rows, run)
        print(report, end="")
        for path in arguments.output:
            if path.suffix == ".csv":
                write_csv(path, flat_rows(rows), COLUMNS)
            elif path.suffix == ".json":
                write_json(path, run | {"models": rows})
            else:
                write_text(path, report)
    except (InputError, WorkerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

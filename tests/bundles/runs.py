"""How the tests run bundles: as the command line does, and within the test's own process."""

from __future__ import annotations

import csv
import itertools
import json
import logging
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import monai
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from common.engines import launch
from tests.helpers import affine_of, noise

ROOT = Path(__file__).resolve().parents[2]
_QUIET = {"PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
# The order of evaluation: MONAI merges from left to right.
CONFIGS = {"train": ["train"], "evaluate": ["train", "evaluate"], "inference": ["inference"]}


def files_of(root: Path, config: str) -> list[str]:
    """The configuration files of a kind of run, or train.json with another one over it.

    ``inference+unet`` is a kind with a further file over it.
    """
    kind, *over = config.split("+")
    return [str(root / "configs" / f"{name}.json") for name in [*CONFIGS.get(kind, ["train", kind]), *over]]


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def words(ids: dict[str, Any]) -> list[str]:
    """The ids as a command line has them."""
    return [word for name, value in ids.items() for word in (f"--{name}", str(value))]


@dataclass
class Finished:
    """What a process left."""

    status: int
    out: str
    err: str


class Launcher:
    """Starts ``python -m monai.bundle`` in processes that are forked from one which has imported MONAI already.

    Where there is no fork, each is started afresh.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.number, self.server = folder, itertools.count(), None
        self.environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | _QUIET | {"TMPDIR": str(folder)}
        if sys.platform == "linux":
            command = [sys.executable, str(Path(__file__).with_name("fork_server.py"))]
            self.server = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                encoding="utf-8",
                cwd=folder,
                env=self.environment,
            )
            assert self.server.stdout.readline() == "ready\n"

    def __call__(self, *arguments: object, cwd: Path, fresh: bool = False, largest_file: int | None = None) -> Finished:
        """Run one command to its end; ``fresh`` with an interpreter of its own.

        ``largest_file``: bytes beyond which no file can be written, as on a full disk.
        """
        arguments = [str(argument) for argument in arguments]
        if fresh or self.server is None:
            if largest_file is not None:
                pytest.skip("needs fork")
            command = [sys.executable, "-m", "monai.bundle", *arguments]
            done = subprocess.run(command, cwd=cwd, env=self.environment, capture_output=True, encoding="utf-8")
            return Finished(done.returncode, done.stdout, done.stderr)
        out, err = (self.folder / f"{next(self.number)}.txt" for _ in range(2))
        job = {"arguments": arguments, "cwd": str(cwd), "out": str(out), "err": str(err), "environment": {}}
        job["largest_file"] = largest_file
        self.server.stdin.write(json.dumps(job) + "\n")
        self.server.stdin.flush()
        status = int(self.server.stdout.readline())
        return Finished(status, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8"))

    def close(self) -> None:
        """End the server."""
        if self.server is not None:
            self.server.stdin.close()
            self.server.wait()
            self.server.stdout.close()


@contextmanager
def undone() -> Iterator[None]:
    """Take back what a run does to the process: ``sys.path``, the log, the random state, MONAI's warning."""
    root = logging.getLogger()
    path, handlers, level, log_file = list(sys.path), list(root.handlers), root.level, launch._log_file
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            for handler in [handler for handler in root.handlers if handler not in handlers]:
                root.removeHandler(handler)
                handler.close()
            for handler in [handler for handler in handlers if handler not in root.handlers]:
                root.addHandler(handler)
            sys.path[:], launch._log_file = path, log_file
            root.setLevel(level)
            monai.utils.set_determinism(seed=None)


def workflow(root: Path, config: str, **ids: Any) -> ConfigWorkflow:
    """A workflow of a bundle, not yet initialized. Call it, and use it, within :func:`undone`."""
    return ConfigWorkflow(
        config_file=files_of(root, config),
        workflow_type="infer" if config.startswith("inference") else "train",
        logging_file=False,
        **({"bundle_root": str(root), "device": torch.device("cpu")} | ids),
    )


def run(root: Path, config: str, **ids: Any) -> None:
    """Run a bundle's configuration in this process, from its start to its end."""
    with undone():
        made = workflow(root, config, **ids)
        made.initialize()
        made.run()
        made.finalize()


def run_in_ranks(root: Path, config: str, ranks: int, **ids: Any) -> None:
    """Run a configuration and its ``multi_gpu_`` overlay in several processes."""
    files = [*files_of(root, config), str(root / "configs" / f"multi_gpu_{config}.json")]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
    command += ["-m", "monai.bundle", "run", "--config_file", str(files), *words({"bundle_root": root} | ids)]
    done = subprocess.run(command, env=os.environ | _QUIET, capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def copy_of(root: Path, target: Path) -> Path:
    """A released bundle: real files in the place of links, without data and output."""

    def left_out(folder: str, names: Sequence[str]) -> set[str]:
        unwanted = {"__pycache__"} | ({"data", "output", "eval"} if Path(folder) == root else set())
        return unwanted & set(names)

    shutil.copytree(root, target, symlinks=False, ignore=left_out)
    (target / "models").mkdir(exist_ok=True)
    return target


def put_random_weights(root: Path, bundle: Path, ids: Mapping[str, Any]) -> None:
    """Give a copy of a bundle the weights of an untrained network, which count as trained, and their plan.

    ``root``: the bundle in the repository; ``ids``: its settings.
    """
    with undone():
        made = workflow(root, "inference", **ids)
        made.parser.parse(reset=True)
        torch.manual_seed(0)
        network = made.parser.get_parsed_content("network_def")
        plan = made.parser.get_parsed_content("plan")
    for stage in getattr(network, "untrained", list)():
        network.mark_trained(stage)
    torch.save(network.state_dict(), bundle / "models" / "model.pt")
    (bundle / "models" / "model.json").write_text(json.dumps(plan), encoding="utf-8")


def released_copy(root: Path, target: Path, **ids: Any) -> Path:
    """A bundle as a zip holds it, with random weights in ``models/`` of the network that the ids make, and its plan."""
    bundle = copy_of(root, target)
    put_random_weights(root, bundle, ids)
    return bundle


def content_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def equal(one: Any, other: Any) -> bool:
    """Whether two nested structures hold the same, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))
    return one == other


def block_scan(shape: Sequence[int] = (14, 40, 44)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A bright block in dim noise, off the middle along each axis.

    Returns:
        The picture (RAS, float32), where the block is, and an oblique voxel-to-world matrix.
    """
    block = np.zeros(shape, dtype=bool)
    block[3:8, 12:22, 21:38] = True
    return 40 * noise(shape) + 500 * block, block, affine_of((4.1, 1.3, 1.2), (0.2, -0.1, 0.3))


class BlockFinder(torch.nn.Module):
    """Stands for a trained network: what is bright is one channel, the rest is background."""

    def __init__(self, num_channels: int, channel: int) -> None:
        super().__init__()
        self.num_channels, self.channel = num_channels, channel

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(B, 1, D, H, W)`` to ``(B, num_channels, D, H, W)``, sure of itself."""
        logits = torch.full((x.shape[0], self.num_channels, *x.shape[2:]), -20.0)
        bright = torch.clamp(20 * (x[:, 0] - 1), -10, 10).to(logits)
        logits[:, self.channel], logits[:, 0] = bright, -bright
        return logits


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Dice of two masks."""
    return 2 * (one & other).sum() / (one.sum() + other.sum())

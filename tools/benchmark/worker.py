"""A process for each model: memory and caches of one do not touch another's."""

from __future__ import annotations

import logging
import multiprocessing
import tempfile
import traceback
import warnings
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigWorkflow

from common.errors import InputError
from tools.benchmark.clock import StepClock
from tools.benchmark.machine import peak_memory, resident_memory
from tools.benchmark.models import MODELS, Grid
from tools.benchmark.scores import LabelScores
from tools.benchmark.volumes import Volumes

__all__ = ["Job", "Worker", "WorkerError"]


class WorkerError(RuntimeError):
    """A model's process failed."""


@dataclass(frozen=True)
class Job:
    """What a process measures.

    Attributes:
        model: a key of ``MODELS``.
        bundle_root: the bundle's folder.
        volumes: what is segmented.
        output_dir: where to; a folder of this job alone.
        device: as PyTorch names it.
        precision: a word of :class:`common.engines.Precision`.
        checkpoint: weights for the bundle's own network; None: random.
        ids: further ids of ``inference.json``.
        threads: of PyTorch on the CPU; None: its own choice.
    """

    model: str
    bundle_root: str
    volumes: Volumes
    output_dir: str
    device: str = "cpu"
    precision: str = "fp32"
    checkpoint: str | None = None
    ids: dict[str, Any] = field(default_factory=dict)
    threads: int | None = None


class _Run:
    """The bundle's evaluator, with the model in it."""

    def __init__(self, job: Job) -> None:
        self.job, self.device = job, torch.device(job.device)
        if job.threads:
            torch.set_num_threads(job.threads)
        torch.manual_seed(0)
        self.folder = Path(job.output_dir)
        self.folder.mkdir(parents=True)
        model = MODELS[job.model]
        own = model.ids(self._grid(), job.volumes)
        checkpoint = None if "network_def" in own else job.checkpoint
        random = checkpoint is None
        if random:
            # Weights that are read and hashed as a user's are.
            network = self._workflow(own).parser.get_parsed_content("network_def")
            for stage in getattr(network, "untrained", list)():
                network.mark_trained(stage)
            checkpoint = str(self.folder / "model.pt")
            torch.save(network.state_dict(), checkpoint)
            del network
        workflow = self._workflow(own | {"checkpoint": checkpoint})
        workflow.initialize()
        parser = workflow.parser
        parser.get_parsed_content("started")
        self.evaluator = parser.get_parsed_content("evaluator")
        made_up = job.volumes.labels and random
        scores = LabelScores(job.volumes.labels, parser.get_parsed_content("label_scheme")) if made_up else None
        self.clock = StepClock(self.device, scores)
        self.clock.attach(self.evaluator)
        self.passes = 0
        network = parser.get_parsed_content("network_def")
        network.get_submodule(model.counted).register_forward_hook(self._count)
        inferer = parser.get_parsed_content("inferer")
        self.held = self._memory_now()
        self.description = {
            "title": model.title,
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "window": list(getattr(inferer, "roi_size", getattr(inferer, "patch_size", self.grid.size))),
            "memory_before": self.held,
        }

    def _workflow(self, ids: dict[str, Any]) -> ConfigWorkflow:
        job, root = self.job, Path(self.job.bundle_root)
        return ConfigWorkflow(
            config_file=str(root / "configs" / "inference.json"),
            workflow_type="infer",
            logging_file=False,
            **{
                "bundle_root": str(root),
                "device": self.device,
                "precision": job.precision,
                "input": job.volumes.items[0]["image"],
                "output_dir": str(self.folder / "output"),
                "dataset#data": job.volumes.items,
                **job.ids,
                **ids,
            },
        )

    def _grid(self) -> Grid:
        parser = self._workflow({}).parser
        image = parser.get_parsed_content("preprocessing")({"image": self.job.volumes.items[0]["image"]})["image"]
        spacing = np.sqrt((np.asarray(image.affine)[:3, :3] ** 2).sum(axis=0))
        self.grid = Grid(tuple(image.shape[1:]), tuple(spacing.tolist()))
        return self.grid

    def _count(self, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        self.passes += len(inputs[0])

    def _memory_now(self) -> int | None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            return torch.cuda.memory_allocated(self.device)
        return resident_memory()

    def _peak(self) -> int | None:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        # Linux counts pages in batches for each processor: a peak may read some hundred kB below what was read before.
        return max((value for value in (peak_memory(), self.held) if value is not None), default=None)

    def __call__(self) -> dict[str, Any]:
        self.clock.volumes, self.passes = [], 0
        self.evaluator.run()
        return {"volumes": self.clock.volumes, "passes": self.passes / len(self.clock.volumes), "memory": self._peak()}


def _first_cause(error: BaseException) -> BaseException:
    """Follow the chain of causes to an :class:`InputError`, else to its beginning: MONAI wraps what is raised."""
    while not isinstance(error, InputError) and (before := error.__cause__ or error.__context__) is not None:
        error = before
    return error


def _serve(connection: Connection, job: Job) -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    try:
        run = _Run(job)
        connection.send(("done", run.description))
        while connection.recv():
            connection.send(("done", run()))
    except (EOFError, KeyboardInterrupt):
        return
    except Exception as error:  # whatever it is, the parent is to end
        cause = _first_cause(error)
        if isinstance(cause, InputError):
            connection.send(("input", cause))
            return
        handle, log_file = tempfile.mkstemp(prefix="benchmark_", suffix=".log")
        with open(handle, "w", encoding="utf-8") as file:
            file.write("".join(traceback.format_exception(error)))
        message = " ".join(f"{type(cause).__name__}: {cause}".split())[:400]
        connection.send(("failed", f"{message}; the traceback is in {log_file}"))


class Worker:
    """A model in a process of its own, which runs when it is called.

    Args:
        job: what it measures.
    """

    def __init__(self, job: Job) -> None:
        self.model = job.model
        # A fresh interpreter: CUDA does not survive a fork, and memory would be shared.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, job), daemon=True)
        self._process.start()
        theirs.close()

    def describe(self) -> dict[str, Any]:
        """Wait until the model is built; to be called once, first.

        Returns:
            ``title``, ``parameters``, ``window`` (voxels of a pass), ``memory_before`` (bytes that the process held
            before the first volume, on a GPU those of tensors).

        Raises:
            InputError: the job cannot be done.
            WorkerError: the process failed otherwise.
        """
        return self._answer()

    def __call__(self) -> dict[str, Any]:
        """Segment all volumes once.

        Returns:
            ``volumes`` (the steps' times, see :class:`StepClock`), ``passes`` of the network a volume, ``memory``
            (bytes: the most that was held so far).

        Raises:
            InputError: a volume cannot be segmented.
            WorkerError: the process failed otherwise.
        """
        self._connection.send(True)
        return self._answer()

    def _answer(self) -> Any:
        try:
            kind, content = self._connection.recv()
        except EOFError:
            self._process.join()
            raise WorkerError(
                f"{self.model}: its process ended with status {self._process.exitcode} (-9: out of memory)"
            ) from None
        if kind == "input":
            raise content
        if kind == "failed":
            raise WorkerError(f"{self.model}: {content}")
        return content

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.terminate()

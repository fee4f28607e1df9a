"""The bundle's real command line as a process: what its start costs, and what a user waits for."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from common.errors import InputError
from tools.benchmark.worker import Job

__all__ = ["COMMANDS", "Command"]

COMMANDS = {
    "start": "start of SAFNet's command: Python, imports, checks, network, weights",
    "command": "SAFNet's whole command, one volume",
}


class Command:
    """``python -m monai.bundle run`` with a bundle's ``inference.json`` on the first volume, run when it is called.

    Args:
        model: ``start``: everything is built and the weights are read, and then the process ends; ``command``: all.
        job: bundle, volumes and settings.
    """

    def __init__(self, model: str, job: Job) -> None:
        self.model = model
        root = Path(job.bundle_root)
        config = str(root / "configs" / "inference.json")
        folder = Path(job.output_dir)
        folder.mkdir(parents=True)
        checkpoint = job.checkpoint
        if checkpoint is None:
            parser = ConfigParser()
            parser.read_config(config)
            parser.update({"bundle_root": str(root), "device": "cpu", **job.ids})
            checkpoint = str(folder / "model.pt")
            torch.save(parser.get_parsed_content("network_def").state_dict(), checkpoint)
        ids = {
            "bundle_root": root,
            "input": job.volumes.items[0]["image"],
            "checkpoint": checkpoint,
            "output_dir": folder / "output",
            "device": job.device,
            "precision": job.precision,
            **job.ids,
        }
        if model == "start":
            ids["run"] = "['$@evaluator']"
        self.words = [sys.executable, "-m", "monai.bundle", "run", "--config_file", config]
        for name, value in ids.items():
            self.words += [f"--{name}", str(value)]
        self.environment = os.environ | {"PYTHONWARNINGS": "ignore"}
        if job.threads:
            self.environment["OMP_NUM_THREADS"] = str(job.threads)

    def describe(self) -> dict[str, Any]:
        """Return the row's ``title``."""
        return {"title": COMMANDS[self.model]}

    def __call__(self) -> dict[str, Any]:
        """Run it once.

        Returns:
            ``volumes``: the seconds, as ``total``.

        Raises:
            InputError: it failed; the message is what it said last.
        """
        begin = time.perf_counter()
        done = subprocess.run(self.words, env=self.environment, capture_output=True, encoding="utf-8")
        seconds = time.perf_counter() - begin
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            raise InputError("the bundle's command", f"failed ({said})", "try it by hand: " + " ".join(self.words))
        return {"volumes": [{"total": seconds}]}

    def close(self) -> None:
        """Nothing is left running."""

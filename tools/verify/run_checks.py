"""The checks that run a bundle, each bundle in a process that knows nothing of the repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["RUN_CHECKS", "run_checks"]

RUN_CHECKS = (
    "schema", "network", "train_properties", "weights", "evaluate_properties", "inference_properties", "torchscript",
)  # fmt: skip
_WORKER = Path(__file__).with_name("worker.py")


def run_checks(root: Path, schema: Path | None, checks: Sequence[str], random_weights: bool) -> Iterator[str]:
    """Run checks of a bundle, in an empty folder and with the bundle's own copy of the shared code.

    Args:
        root: a copy of the bundle's folder, without links.
        schema: of the metadata; None: MONAI downloads it.
        checks: names of those to run, in the order of ``RUN_CHECKS``.
        random_weights: put random weights into the copy first.

    Yields:
        For each of the checks what it has found, in one line; nothing if all is well.
    """
    if not checks:
        return
    answered = 0
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        job = {
            "root": str(root),
            "schema": str(schema) if schema else None,
            "checks": list(checks),
            "random_weights": random_weights,
        }
        # -P and no PYTHONPATH: only installed packages, and the bundle itself, can be imported.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment |= {"PYTHONWARNINGS": "ignore"}
        worker = subprocess.Popen(
            [sys.executable, "-P", str(_WORKER), json.dumps(job)],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
            encoding="utf-8",
        )  # fmt: skip
        try:
            for line in worker.stdout:
                yield json.loads(line)
                answered += 1
            status = worker.wait()
        finally:
            worker.kill()  # where the caller stops early
            worker.wait()
            worker.stdout.close()
        errors.seek(0)
        last = (errors.read().strip().splitlines() or ["it said nothing"])[-1]
    # Out of memory, for instance: what was not answered has not passed.
    yield from [f"{root.name}: its process ended with status {status}; {last}"] * (len(checks) - answered)

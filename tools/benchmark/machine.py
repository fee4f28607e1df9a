"""What was measured on: hardware, versions, load, memory."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

__all__ = ["cores", "describe_machine", "load", "peak_memory", "resident_memory"]

_ROOT = Path(__file__).resolve().parents[2]
_LIBRARIES = ("torch", "monai", "numpy", "scipy", "nibabel")


def cores() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load() -> list[float] | None:
    """Return the load averages of the last 1, 5 and 15 minutes; None where the system has none."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None


def describe_machine(device: torch.device, threads: int | None) -> dict[str, Any]:
    """Name the hardware and the software.

    Args:
        device: where the networks run.
        threads: of PyTorch on the CPU; None: as many as cores.
    """
    return {
        "cpu": _cpu_name(),
        "cores": cores(),
        "cores_of_machine": os.cpu_count(),
        "threads": threads or cores(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "system": platform.platform(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES},
        "commit": _commit(),
        "priority": os.getpriority(os.PRIO_PROCESS, 0) if hasattr(os, "getpriority") else None,
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Return the revision of the code, with a ``+`` where files differ from it."""
    command = ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, cwd=_ROOT, capture_output=True, encoding="utf-8", check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def resident_memory() -> int | None:
    """Return the bytes of memory that this process holds now; None where the system does not tell (not Linux)."""
    return _status("VmRSS")


def peak_memory() -> int | None:
    """Return the most memory that this process ever held, in bytes.

    On Linux it is the kernel's high-water mark of the process's own memory: ``ru_maxrss`` would begin with that of the
    process which started it. None on Windows.
    """
    peak = _status("VmHWM")
    if peak is None and sys.platform == "darwin":
        import resource  # not there on Windows

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak


def _status(name: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name + ":")), None)

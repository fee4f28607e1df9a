"""From measured times to tables."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tools.benchmark.clock import STEPS

__all__ = ["COLUMNS", "REFERENCE", "add_ratios", "as_markdown", "flat_rows", "heading", "summarize", "table"]

REFERENCE = "safnet"
_GIB = 2**30
COLUMNS = (
    "model", "title", "repeats", "seconds", "seconds_min", "seconds_max", "seconds_ratio", "network_seconds",
    "network_seconds_min", "network_seconds_max", "network_ratio", "cpu_seconds", "passes", "window", "parameters",
    "memory_bytes", "memory_before_bytes", *(f"share_{step}" for step in STEPS),
)  # fmt: skip


def summarize(
    model: str, description: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], warm_up: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Put the runs of one model together.

    Args:
        model: its key.
        description: see :meth:`tools.benchmark.worker.Worker.describe`.
        runs: what each repeat gave.
        warm_up: the run before them, None where the first was long enough to count.

    Returns:
        Seconds per volume: of each repeat the mean over the volumes, of these median, least and most, of the whole and
        of the network; ``shares`` of the steps (medians, divided by their sum); and the runs themselves.
    """

    def per_volume(key: str) -> list[float]:
        return [statistics.fmean(volume[key] for volume in run["volumes"]) for run in runs]

    def spread(values: Sequence[float]) -> dict[str, float]:
        return {"median": statistics.median(values), "min": min(values), "max": max(values)}

    row = {"model": model, **description, "repeats": len(runs), "seconds": spread(per_volume("total"))}
    if "network" in runs[0]["volumes"][0]:
        steps = {step: statistics.median(per_volume(step)) for step in STEPS}
        row |= {
            "network_seconds": spread(per_volume("network")),
            "cpu_seconds": statistics.median(per_volume("cpu")),
            "shares": {step: seconds / sum(steps.values()) for step, seconds in steps.items()},
            "passes": runs[-1]["passes"],
            "memory": runs[-1]["memory"],
        }
    return row | {"warm_up": warm_up, "runs": list(runs)}


def add_ratios(rows: Sequence[dict[str, Any]]) -> None:
    """Add to each row how many times as long as SAFNet it takes; nothing where SAFNet was not measured."""
    reference = next((row for row in rows if row["model"] == REFERENCE), None)
    for row in rows:
        for key in ("seconds", "network_seconds"):
            if reference is not None and key in row:
                row[f"{key.removesuffix('_seconds')}_ratio"] = row[key]["median"] / reference[key]["median"]


def flat_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a CSV file, with the keys ``COLUMNS``."""
    table = []
    for row in rows:
        flat = {key: row.get(key) for key in ("model", "title", "repeats", "cpu_seconds", "passes", "parameters")}
        for key in ("seconds", "network_seconds"):
            if key in row:
                flat |= {key: row[key]["median"], f"{key}_min": row[key]["min"], f"{key}_max": row[key]["max"]}
        flat |= {"seconds_ratio": row.get("seconds_ratio"), "network_ratio": row.get("network_ratio")}
        flat["window"] = "x".join(map(str, row["window"])) if "window" in row else None
        flat |= {"memory_bytes": row.get("memory"), "memory_before_bytes": row.get("memory_before")}
        table.append(flat | {f"share_{step}": share for step, share in row.get("shares", {}).items()})
    return table


def heading(run: Mapping[str, Any]) -> list[str]:
    """Say what was run, where, and what else the machine had to do.

    Args:
        run: ``machine``, ``command``, ``load_before``, ``load_after`` and, if it holds for all, ``precision``.
    """
    machine = run["machine"]
    where = machine["gpu"] or f"{machine['threads']} threads"
    precision = f", {run['precision']}" if "precision" in run else ""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return [
        f"    {run['command']}",
        "",
        f"- {machine['cpu']}, {machine['cores']} of {machine['cores_of_machine']} cores; networks on {where}"
        f"{precision}; {machine['system']}",
        f"- {versions}; revision {machine['commit']}",
        f"- load average (1, 5, 15 min) before {_numbers(run['load_before'])}, after {_numbers(run['load_after'])}; "
        f"priority {machine['priority']}",
    ]


def as_markdown(rows: Sequence[Mapping[str, Any]], run: Mapping[str, Any]) -> str:
    """Write the whole report.

    Args:
        rows: of :func:`summarize`, with ratios.
        run: ``machine``, ``command``, ``device``, ``precision``, ``volumes``, ``plan``, ``load`` before and after.
    """
    machine = run["machine"]
    lines = [
        *heading(run),
        f"- volumes: {run['volumes']}",
        f"- nnU-Net's plan: spacing {_numbers(run['plan']['spacing'])} mm, patch {_size(run['plan']['patch'])}, "
        f"{len(run['plan']['strides'])} stages, strides {' '.join(_size(stride) for stride in run['plan']['strides'])}",
        f"- {run['weights']}",
        "",
        "Seconds per volume: median (least to most) over the repeats; x: times SAFNet's. Memory: "
        + (
            "most allocated on the GPU"
            if machine["gpu"]
            else "most that the process held, in brackets what its run added"
        )
        + ", GiB.",
        "",
    ]
    head = ["model", "file to file, s", "x", "network alone, s", "x", "CPU, s", "passes", "window", "M weights"]
    body = [[*head, "memory", "repeats"]]
    for row in rows:
        network = row.get("network_seconds")
        body.append(
            [
                row["title"],
                _spread(row["seconds"]),
                _ratio(row.get("seconds_ratio")),
                _spread(network) if network else "",
                _ratio(row.get("network_ratio")),
                f"{row['cpu_seconds']:.3g}" if network else "",
                f"{row['passes']:g}" if network else "",
                _size(row["window"]) if network else "",
                f"{row['parameters'] / 1e6:.1f}" if network else "",
                _memory(row) if network else "",
                str(row["repeats"]),
            ]
        )
    lines += [*table(body), "", "Share of time per step:", ""]
    shares = [
        [row["title"], *(f"{100 * row['shares'][step]:.1f} %" for step in STEPS)] for row in rows if "shares" in row
    ]
    return "\n".join([*lines, *table([["model", *STEPS], *shares])]) + "\n"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Write a table, whose first row is the head and whose first column is text."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return [lines[0], "|---" + "|---:" * (len(rows[0]) - 1) + "|", *lines[1:]]


def _spread(seconds: Mapping[str, float]) -> str:
    return f"{seconds['median']:.3g} ({seconds['min']:.3g} to {seconds['max']:.3g})"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _memory(row: Mapping[str, Any]) -> str:
    if row["memory"] is None:
        return "unknown"
    return f"{row['memory'] / _GIB:.2f} (+{(row['memory'] - row['memory_before']) / _GIB:.2f})"


def _size(numbers: Sequence[int]) -> str:
    return "x".join(map(str, numbers))


def _numbers(numbers: Sequence[float] | None) -> str:
    return "unknown" if numbers is None else " ".join(f"{number:.3g}" for number in numbers)

"""The tables of :mod:`tools.benchmark.frames`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tools.benchmark.report import heading, table

__all__ = ["as_markdown"]

_ANOTHER = "The paper's times were taken on another machine (RTX 4090): no comparison on equal terms."


def as_markdown(results: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """Write the report.

    Args:
        results: ``models``, ``pipeline`` and ``gating``, each of which may be missing.
        run: see :func:`tools.benchmark.report.heading`; also ``left_out``, ``frames``, ``warm_up``, ``pipeline``.
    """
    lines = [*heading(run), f"- batch 1, {run['frames']} frames after {run['warm_up']} that warm up; random weights"]
    lines += [f"- {line}" for line in run["left_out"]]
    if "models" in results:
        lines += ["", *_models(results["models"])]
    if "pipeline" in results:
        lines += ["", *_pipeline(results["pipeline"], run["pipeline"])]
    if "gating" in results:
        lines += ["", *_gating(results["gating"], run["pipeline"])]
    return "\n".join(lines) + "\n"


def _models(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    counts = [
        [
            "model", "input", "M trainable", "M with statistics", "M, paper", "GFLOP at this input",
            "GFLOP as in table 5", "GFLOP, paper",
        ]
    ]  # fmt: skip
    settings = list(dict.fromkeys(name for row in rows for name in row["times"]))
    times = [["model", "input", *(f"{name}: ms p50 (p95)" for name in settings), "ms, paper"]]
    for row in rows:
        name = [row["title"], _size(row["size"])]
        paper = row["paper"]
        counts.append(
            [
                *name,
                *(f"{row[key] / 1e6:.3f}" for key in ("parameters", "parameters_with_statistics")),
                f"{paper['million']:.1f}",
                *(f"{row[key] / 1e9:.3f}" for key in ("flops", "flops_table_5")),
                f"{paper['gflops']:.1f}",
            ]
        )
        cells = [f"{_number(row['times'][s]['ms_p50'])} ({_number(row['times'][s]['ms_p95'])})" for s in settings]
        times.append([*name, *cells, f"{paper['milliseconds']:g}"])
    return [
        "## Models one by one",
        "",
        "Statistics: running means and variances of batch normalization, which the paper's parameters contain. GFLOP: "
        "2 for each multiplication with its addition, in convolutions, linear layers and attention. As in table 5: of "
        "the U-Nets with one for each bias added and each ReLU, of all others without; at 224x224 (U-Nets: 256x256), "
        "which for the SegFormers is not the 512x512 that the paper says they run at.",
        "",
        *table(counts),
        "",
        f"The network alone, its input on the device. {_ANOTHER}",
        "",
        *table(times),
    ]


def _pipeline(rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> list[str]:
    streams = [
        [
            "gate", "setting", "open", "dropped", "frames/s", "ms p50", "ms p95", "ms p99", "age p95",
            f"p95 within {1000 / about['frame_rate']:.1f} ms, none dropped", "bound by",
        ]
    ]  # fmt: skip
    steps = [["step", "gate", "setting", "frames", "ms p50", "ms p95", "ms p99", "share of time"]]
    for row in rows:
        whole, age = row["steps"]["whole"], row["steps"]["age"]
        keeps_up = row["dropped"] == 0 and whole["ms_p95"] <= 1000 / about["frame_rate"]
        streams.append(
            [
                row["gate"], row["setting"], f"{100 * row['open_share']:.0f} %", f"{row['dropped']} of {row['came']}",
                f"{row['frames_per_second']:.2f}", *(f"{whole[key]:.1f}" for key in ("ms_p50", "ms_p95", "ms_p99")),
                f"{age['ms_p95']:.1f}", "yes" if keeps_up else "no",
                f"{row['bound_by']} ({100 * row['steps'][row['bound_by']]['share']:.0f} %)",
            ]
        )  # fmt: skip
        for step, spread in row["steps"].items():
            if step != "age":
                percents = (f"{spread[key]:.2f}" for key in ("ms_p50", "ms_p95", "ms_p99"))
                share = f"{100 * spread['share']:.1f} %"
                steps.append([step, row["gate"], row["setting"], str(spread["count"]), *percents, share])
    return [
        "## The two stages on running video",
        "",
        f"{_stages(about)}; {about['frame_rate']:g} frames a second come by the clock, the newest is taken, those that "
        "it replaced are dropped. The classifier runs on each frame that is taken; a fixed, evenly spread pattern says "
        f"which of them pass. Measured share: {about['share_source']}. Age: from a frame's coming to its mask.",
        "",
        *table(streams),
        "",
        *table(steps),
    ]


def _gating(rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> list[str]:
    body = [
        [
            "open", "setting", "ms, gate open", "ms, closed", "ms at this share", "ms of the segmenter", "saved",
            "promised", "saved / promised", "the same of means",
        ]
    ]  # fmt: skip
    for row in rows:
        milliseconds = (f"{row[key]:.2f}" for key in ("ms_open", "ms_closed", "ms_share", "ms_segmenter"))
        percents = (f"{100 * row[key]:.1f} %" for key in ("saved", "promised"))
        ratios = ("" if row[key] is None else f"{row[key]:.3f}" for key in ("ratio", "ratio_of_means"))
        body.append([f"{100 * row['share']:.0f} %", row["setting"], *milliseconds, *percents, *ratios])
    return [
        "## What the gate saves",
        "",
        f"{_stages(about)}. Each frame goes through an open gate, a closed one and one of each share in turn. Saved: "
        "1 - time at this share / time with the gate open; promised: share of closed frames x time of the segmenter / "
        "time with the gate open. Medians.",
        "",
        *table(body),
    ]


def _stages(about: Mapping[str, Any]) -> str:
    return (
        f"{about['classifier']} at {_size(about['classifier_size'])} and {about['segmenter']} at "
        f"{_size(about['segmenter_size'])} on frames of {_size(about['frame_size'])}"
    )


def _size(numbers: Sequence[int]) -> str:
    return "x".join(map(str, numbers))


def _number(value: float) -> str:
    """Return three digits, and no power of ten."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"

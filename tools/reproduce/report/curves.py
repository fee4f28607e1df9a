"""Learning curves: loss and the validation's metric by epoch, a line for each fold."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from tools.reproduce.report.svg import Scale, color, dash, drawing, element, text
from tools.reproduce.results import Job

__all__ = ["Curve", "History", "curve_plot", "read_history"]

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 264.0, 176.0, 38.0, 254.0, 26.0, 144.0
_MOST = 400  # points of a line; a plot has no more columns than that


@dataclass(frozen=True)
class Curve:
    """A line of a plot.

    Args:
        number: of its colour.
        epochs: (N,).
        values: (N,).
    """

    number: int
    epochs: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class History:
    """A training's history, or why there is none.

    Args:
        job: the training.
        columns: epochs and values by the column's name, where these are finite numbers.
        problem: why it could not be read; empty where it could.
    """

    job: Job
    columns: Mapping[str, tuple[list[float], list[float]]]
    problem: str = ""

    @property
    def validation(self) -> str:
        """The column of the validation's metric: the first, and its loss only where there is nothing else."""
        names = [name for name in self.columns if name.startswith("val_")]
        return next((name for name in names if "loss" not in name), names[0] if names else "")


def read_history(job: Job, path: Path) -> History:
    """Read a training's ``history.csv``.

    Args:
        job: the training.
        path: of the file.
    """
    columns: dict[str, tuple[list[float], list[float]]] = {}
    try:
        with open(path, newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.DictReader(file), start=1):
                told = _number(row.get("epoch"))
                epoch = float(number) if told is None else told
                for name, cell in row.items():
                    value = _number(cell)
                    if name and name != "epoch" and value is not None:
                        epochs, values = columns.setdefault(name, ([], []))
                        epochs.append(epoch)
                        values.append(value)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        return History(job, {}, f"{path.name} cannot be read ({getattr(error, 'strerror', None) or error})")
    return History(job, columns, "" if "loss" in columns else f"{path.name} has no losses")


def curve_plot(title: str, curves: Sequence[Curve], limits: Sequence[float], last_epoch: float) -> Markup:
    """Draw lines over the epochs.

    Args:
        title: what is drawn.
        curves: the lines, at least one.
        limits: values that have to find room, so that plots beside each other share their axis.
        last_epoch: the greatest of all plots.
    """
    across, up = Scale([0.0, max(last_epoch, 1.0)], _LEFT, _RIGHT), Scale(limits, _BOTTOM, _TOP)
    grid = [element("line", x1=_LEFT, x2=_RIGHT, y1=up(tick), y2=up(tick), class_="grid") for tick in up.ticks]
    labels = [
        text(_LEFT - 6, up(tick) + 4, up.label(tick), class_="tick", text_anchor="end") for tick in up.ticks
    ]  # fmt: skip
    whole = [tick for tick in across.ticks if tick == int(tick)]
    epochs = [text(across(tick), _BOTTOM + 15, f"{tick:g}", class_="tick", text_anchor="middle") for tick in whole]
    words = [
        text(_LEFT, 13, title, 32, class_="name"),
        text(_RIGHT, _BOTTOM + 28, "epoch", class_="tick", text_anchor="end"),
    ]
    return drawing(
        _WIDTH, _HEIGHT, f"Learning curve: {title}", *grid, *labels, *epochs, *words,
        *(_line(curve, across, up) for curve in curves),
    )  # fmt: skip


def _line(curve: Curve, across: Scale, up: Scale) -> Markup:
    paint, step = color(curve.number), max(1, math.ceil(len(curve.epochs) / _MOST))
    if len(curve.epochs) == 1:
        return element("circle", cx=across(curve.epochs[0]), cy=up(curve.values[0]), r=2.5, fill=paint)
    # Of a long line every so many epochs, counted from the last one, which is always drawn.
    kept = range(len(curve.epochs) - 1, -1, -step)[::-1]
    points = " ".join(f"{across(curve.epochs[at]):.1f},{up(curve.values[at]):.1f}" for at in kept)
    return element("polyline", points=points, stroke=paint, stroke_dasharray=dash(curve.number), class_="curve")


def _number(text_of_cell: str | None) -> float | None:
    try:
        value = float(text_of_cell or "")
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None

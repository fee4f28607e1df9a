"""Pictures of ROC and precision-recall curves of several models."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from common.data.atomic import atomic_path
from common.visualize.model_colors import model_color

__all__ = ["Curve", "precision_recall_figure", "roc_figure", "save_figure"]

# Models whose colours are the same differ by their lines.
_STYLES = ("-", "--", ":")
_COLORS = 5


@dataclass(frozen=True)
class Curve:
    """One model's curve.

    Args:
        name: of the model.
        x: false positive rate or recall, (K,), rising.
        y: sensitivity or precision, (K,).
        area: under the curve, for the legend.
        point: (x, y) at the threshold that is used; None to mark none.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    area: float
    point: tuple[float, float] | None = None


def roc_figure(curves: Sequence[Curve], title: str = "Stage 1: is it there? (dots: at the gate's threshold)") -> Figure:
    """Draw receiver operating characteristics, with the areas in the legend; chance is the dashed line.

    Args:
        curves: x is the false positive rate, y the sensitivity.
        title: stands above.
    """
    figure, axes = _axes(
        title, "1 - specificity (false positive rate)", "sensitivity (true positive rate)", len(curves)
    )
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, linestyle=(0, (4, 4)), zorder=1)
    _draw(axes, curves, "AUROC", "default")
    return figure


def precision_recall_figure(
    curves: Sequence[Curve], share: float, title: str = "Stage 2: pixels of the positives (dots: at the threshold)"
) -> Figure:
    """Draw precision-recall curves, with the average precisions in the legend; chance is the dashed line.

    Args:
        curves: x is the recall, y the precision. They are drawn as steps, whose area is the average precision.
        share: of the pixels that are foreground, which is the precision of a guess.
        title: stands above.
    """
    figure, axes = _axes(title, "recall (sensitivity)", "precision", len(curves))
    axes.axhline(share, color="0.7", linewidth=1, linestyle=(0, (4, 4)), zorder=1)
    whole = [
        Curve(c.name, np.concatenate([[0.0], c.x]), np.concatenate([c.y[:1], c.y]), c.area, c.point) for c in curves
    ]
    _draw(axes, whole, "AUPRC", "steps-pre")
    return figure


def save_figure(path: str | os.PathLike, figure: Figure) -> None:
    """Write a figure as PNG, whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", facecolor="white")


def _axes(title: str, x_label: str, y_label: str, count: int) -> tuple[Figure, Axes]:
    """Return a square plot with room for the legend of so many curves below."""
    width, plot, top, bottom = 6.0, 4.9, 0.5, 0.68 + 0.235 * count
    height = top + plot + bottom
    figure = Figure(figsize=(width, height), dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.75 / width, bottom / height, plot / width, plot / height))
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=x_label, ylabel=y_label, aspect="equal")
    axes.set_title(title, fontsize=12, loc="left", parse_math=False)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.grid(color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _draw(axes: Axes, curves: Sequence[Curve], area: str, steps: str) -> None:
    lines = []
    for number, curve in enumerate(curves):
        color = tuple(part / 255 for part in model_color(number))
        style = _STYLES[number // _COLORS % len(_STYLES)]
        # The first curve, this model's, lies on top; lines may run along the frame, so they are not cut there.
        order = 10 + len(curves) - number
        lines += axes.plot(
            curve.x, curve.y, color=color, linewidth=2, linestyle=style, drawstyle=steps, zorder=order, clip_on=False
        )
        if curve.point is not None:
            axes.plot(
                *curve.point, marker="o", color=color, markeredgecolor="white", markersize=8,
                zorder=order + len(curves), clip_on=False,
            )  # fmt: skip
    labels = [f"{area} {curve.area:.3f}   {_short(curve.name)}" for curve in curves]
    figure = axes.figure
    legend = figure.legend(
        lines, labels, loc="lower left", bbox_to_anchor=(axes.get_position().x0, 0.012), frameon=False, fontsize=10,
        borderaxespad=0, handlelength=2.2,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)


def _short(name: str, most: int = 44) -> str:
    return name if len(name) <= most else f"{name[: most - 3]}..."

"""Box plots of the cases' scores: a panel for each structure, a box for each model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from markupsafe import Markup

from tools.reproduce.report.analysis import Analysis
from tools.reproduce.report.svg import Scale, color, drawing, element, text
from tools.reproduce.report.words import counted, heading, number
from tools.reproduce.results import Metric

__all__ = ["FEW", "box_plots"]

FEW = 12  # up to so many cases each is drawn as a point; of more, those beyond the whiskers
_WIDTH, _LEFT, _RIGHT = 340.0, 10.0, 330.0
_TOP, _ROW, _BOX, _AXIS = 6.0, 40.0, 12.0, 24.0


def box_plots(analysis: Analysis, metric: Metric) -> list[tuple[str, Markup]]:
    """Draw a panel for each structure, and one for the cases as a whole; all share one axis.

    Args:
        analysis: what is drawn.
        metric: of the scores.

    Returns:
        Title and drawing of each panel that has any score.
    """
    drawn = {title: of_models for title, of_models in _panels(analysis, metric).items() if of_models}
    if not drawn:
        return []
    everything = np.concatenate([scores for of_models in drawn.values() for scores in of_models.values()])
    scale = Scale([float(everything.min()), float(everything.max())], _LEFT, _RIGHT)
    return [(title, _panel(analysis, metric, title, of_models, scale)) for title, of_models in drawn.items()]


def _panels(analysis: Analysis, metric: Metric) -> dict[str, dict[str, np.ndarray]]:
    """Return the scores by panel and model; those of an AUROC are told apart by the truth."""
    if metric.statistic in ("maximum", "average_precision"):
        return {}  # of the mean curve, or of all pixels, which no single case has
    structures = analysis.samples.structures(metric.key, analysis.results.structures)
    samples = {name or "case as a whole": analysis.whole(metric.key, name) for name in dict.fromkeys(["", *structures])}
    if metric.statistic != "auroc":
        return {title: {key: one.values for key, one in of.items()} for title, of in samples.items()}
    return {
        f"{title}, truth {truth}": {
            key: one.values[one.truths == truth] for key, one in of.items() if (one.truths == truth).any()
        }
        for title, of in samples.items()
        for truth in (1, 0)
    }


def _panel(analysis: Analysis, metric: Metric, title: str, of_models: Mapping[str, np.ndarray], scale: Scale) -> Markup:
    rows, parts = 0, []
    for place, (key, name) in enumerate(analysis.titles.items()):
        if key in of_models:
            parts.append(_row(of_models[key], name, metric, color(place), _TOP + _ROW * rows, scale))
            rows += 1
    bottom = _TOP + _ROW * rows
    grid = [element("line", x1=scale(tick), x2=scale(tick), y1=_TOP, y2=bottom, class_="grid") for tick in scale.ticks]
    labels = [
        text(scale(tick), bottom + 15, scale.label(tick), class_="tick", text_anchor=_anchor(tick, scale))
        for tick in scale.ticks
    ]
    return drawing(_WIDTH, bottom + _AXIS, f"Box plots of {heading(metric)}: {title}", *grid, *parts, *labels)


def _anchor(tick: float, scale: Scale) -> str:
    return "start" if tick == scale.ticks[0] else "end" if tick == scale.ticks[-1] else "middle"


def _row(values: np.ndarray, name: str, metric: Metric, paint: str, top: float, scale: Scale) -> Markup:
    quarter, median, three_quarters = np.quantile(values, [0.25, 0.5, 0.75])
    reach = 1.5 * (three_quarters - quarter)
    inside = values[(values >= quarter - reach) & (values <= three_quarters + reach)]
    middle = top + 27
    label = text(_LEFT, top + 13, name, 30, class_="name")
    told = f"median {number(float(median), metric.decimals)} · {counted(len(values), 'case')}"
    count = text(_RIGHT, top + 13, told, class_="tick", text_anchor="end")
    points = _points(values if len(values) <= FEW else values[(values < inside.min()) | (values > inside.max())], scale)
    circles = [element("circle", cx=x, cy=middle, r=2.2, class_="point") for x in points]
    if len(values) < 3:
        return element("g", label, count, *circles)
    low, high = scale(float(inside.min())), scale(float(inside.max()))
    left, right = scale(float(quarter)), scale(float(three_quarters))
    whisker = element("line", x1=low, x2=high, y1=middle, y2=middle, stroke=paint, class_="whisker")
    ends = [
        element("line", x1=x, x2=x, y1=middle - _BOX / 3, y2=middle + _BOX / 3, stroke=paint, class_="whisker")
        for x in (low, high)
    ]
    box = element(
        "rect", x=left, y=middle - _BOX / 2, width=max(right - left, 0.8), height=_BOX, rx=1.5, stroke=paint,
        fill=paint, class_="quartiles",
    )  # fmt: skip
    at = scale(float(median))
    line = element("line", x1=at, x2=at, y1=middle - _BOX / 2, y2=middle + _BOX / 2, class_="median")
    return element("g", label, count, whisker, *ends, box, line, *circles)


def _points(values: Iterable[float], scale: Scale) -> list[float]:
    """Return where points are drawn; those that would cover each other are one."""
    return sorted({round(2 * scale(float(value))) / 2 for value in values})

"""What there is to choose from, drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from common.visualize.model_colors import model_color
from tools.gate.proposal import Proposal, Proposals
from tools.gate.trade_off import TradeOff

__all__ = ["gate_figure"]

_GREY = (115, 115, 115)
# Colour, marker and size of each point that is marked.
_MARKS = {
    "always open": (_GREY, "s", 7),
    "0.5": ((0, 0, 0), "D", 7),
    "proposal": (model_color(2), "o", 10),
    "conservative": (model_color(3), "^", 9),
}
_LINES = {
    "sensitivity": ("sensitivity of the gate", model_color(0), "-"),
    "specificity": ("specificity of the gate", model_color(1), "-"),
    "DSC": ("DSC end to end, all frames", model_color(4), "-"),
    "DSC_positives": ("DSC end to end, positives", model_color(4), "--"),
    "passed": ("frames passed (segmenter runs)", _GREY, ":"),
}
_DASHES = (0, (4, 4))


def gate_figure(trade_off: TradeOff, proposals: Proposals) -> Figure:
    """Draw frames lost against false alarms, and what the gate does over its threshold.

    Thresholds are drawn with even steps in the logit, as networks press probabilities against 0 and 1.

    Args:
        trade_off: what there is to choose from.
        proposals: what is marked; the proposal with its confidence intervals.
    """
    figure = Figure(figsize=(12.4, 6.1), dpi=150)
    FigureCanvasAgg(figure)
    curve = trade_off.curve()
    losses, over = (figure.add_axes((left, 0.29, 0.4, 0.64)) for left in (0.064, 0.55))
    _draw_losses(losses, curve, proposals)
    _draw_thresholds(over, trade_off.thresholds, curve, proposals)
    return figure


def _draw_losses(axes: Axes, curve: Mapping[str, np.ndarray], proposals: Proposals) -> None:
    alarms = curve["frame_FPR"]
    axes.plot(alarms, 1 - curve["sensitivity"], color="0.25", linewidth=2, zorder=3)
    found = {name: one for name, one in proposals.named.items() if one is not None}
    handles = []
    for name, one in found.items():
        color, marker, size = _MARKS[name]
        handles += axes.plot(
            one.gate.values["frame_FPR"], 1 - one.gate.values["sensitivity"], marker=marker, markersize=size,
            color=_color(color), markeredgecolor="white", linestyle="none", zorder=6, clip_on=False,
            label=_label(name, one),
        )  # fmt: skip
    x, y = proposals.proposal.intervals["frame_FPR"], proposals.proposal.intervals["sensitivity"]
    axes.errorbar(
        x.value, 1 - y.value, xerr=[[x.value - x.low], [x.high - x.value]],
        yerr=[[y.high - y.value], [y.value - y.low]],
        color=_color(_MARKS["proposal"][0]), linewidth=1.5, capsize=4, zorder=5, clip_on=False,
    )  # fmt: skip
    # Not the whole square, but the corner that matters, with all that is marked in it.
    lost = [1 - proposals.sensitivity, *(1 - one.gate.values["sensitivity"] for one in found.values())]
    right, top = 1.06 * max(0.1, alarms.max(), x.high), 1.1 * max(0.1, *(1.2 * share for share in lost), 1 - y.low)
    axes.set(xlim=(0, min(1.0, right)), ylim=(0, min(1.0, top)))
    axes.axhline(1 - proposals.sensitivity, color="0.6", linewidth=1, linestyle=_DASHES, zorder=1)
    axes.annotate(
        f"wanted: {100 * proposals.sensitivity:g} % pass", (1, 1 - proposals.sensitivity), (0, 4), ha="right",
        xycoords=("axes fraction", "data"), textcoords="offset points", fontsize=9, color="0.4",
    )  # fmt: skip
    axes.set_xlabel("false alarms, end to end (share of negatives with a mask)")
    axes.set_ylabel("frames lost (share of positives that the gate closes)")
    _finish(axes, "Frames lost against false alarms", handles)


def _draw_thresholds(axes: Axes, thresholds: np.ndarray, curve: Mapping[str, np.ndarray], proposals: Proposals) -> None:
    powers = _powers(thresholds, proposals)
    limit = powers[-1]
    axes.set_xscale("logit")
    x = np.clip(thresholds, limit / 2, 1 - limit / 2)
    handles = []
    for name, (label, color, style) in _LINES.items():
        handles += axes.plot(
            x, curve[name], color=_color(color), linestyle=style, linewidth=2, drawstyle="steps-pre", label=label
        )
    for name, width in (("proposal", 2.2), ("conservative", 1.5)):
        if (one := proposals.named[name]) is not None:
            at, color = np.clip(one.threshold, limit, 1 - limit), _color(_MARKS[name][0])
            handles.append(
                axes.axvline(at, color=color, linewidth=width, linestyle=(0, (5, 1)), label=_label(name, one))
            )
    axes.set(xlim=(limit, 1 - limit), ylim=(0, 1.02))
    shown = powers if len(powers) < 4 else powers[len(powers) % 2 == 0 :: 2]
    ticks = sorted([*shown, 0.5, *(1 - power for power in shown)])
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("threshold of the gate")
    _finish(axes, "What the gate does", handles)


def _finish(axes: Axes, title: str, handles: Sequence[Artist]) -> None:
    axes.set_title(title, fontsize=12, loc="left")
    axes.grid(color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0, -0.14), frameon=False, fontsize=10, ncols=2,
        borderaxespad=0, columnspacing=1.5, handlelength=2.2,
    )  # fmt: skip


def _label(name: str, proposal: Proposal) -> str:
    return name if name == f"{proposal.threshold:g}" else f"{name}: {proposal.threshold:.9g}"


def _color(color: tuple[int, int, int]) -> tuple[float, ...]:
    return tuple(part / 255 for part in color)


def _powers(thresholds: np.ndarray, proposals: Proposals) -> list[float]:
    """Return powers of ten, from 0.1 down to the one that is as near to 0, and to 1, as thresholds are drawn.

    That is as near as most of them are, at least 0.01 and at most 1e-4; what is marked may need up to 1e-7.
    """
    marked = [one.threshold for one in proposals.named.values() if one is not None and 0 < one.threshold < 1]
    many = np.clip(np.quantile(thresholds, [0.05, 0.95]), 1e-4, 1 - 1e-4)
    nearest = min(0.01, *(min(t, 1 - t) for t in (*many, *np.clip(marked, 2e-7, 1 - 2e-7))))
    return [10.0**-power for power in range(1, 1 - math.floor(math.log10(nearest) + 1e-6))]

"""A choice of thresholds as a table, as plain objects and in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from common.metrics import Interval
from tools.gate.evaluation import EvaluatedFrames
from tools.gate.proposal import LEVEL, Proposal, Proposals
from tools.gate.trade_off import MEASURES, TradeOff

__all__ = ["COLUMNS", "plain_report", "text_report", "threshold_rows"]

COLUMNS = ("threshold", "passed_frames", "lost_frames", *MEASURES)
_CONVENTIONS = {
    "gate": "a frame passes from the threshold on; one that does not has an empty mask",
    "proposal": "the largest threshold with the wanted sensitivity on these frames, rounded down to few digits such "
    "that all of them are decided in the same way; up to largest_threshold they are",
    "conservative": "the same of the lower confidence bound of the sensitivity; null where these frames cannot show it",
    "no_further_alarms": "below the proposal, what lets more positives pass and no further negative; null where there "
    "is none",
    "sensitivity": "share of the positives that pass, as they are stated; the others are lost",
    "specificity": "share of the negatives that do not pass, as they are stated",
    "frame_FPR": "false alarms end to end: share of the frames without a reference that have any mask",
    "frame_FNR": "share of the frames with a reference that have no mask, as the gate closed or nothing was found",
    "passed": "share of all frames that pass, on which the segmenter has to run",
    "DSC": "end to end, mean over all frames; 1 where reference and mask are both empty, 0 where only one of them is",
    "DSC_positives": "the same over the frames with a reference",
    "interval": "percentiles of the bootstrap; of shares of frames Clopper and Pearson's where these are wider (they "
    "take frames as independent, also where patients are resampled). They are of the threshold as it stands: that it "
    "was chosen on these frames is not in them",
}
_LABELS = {
    "sensitivity": "sensitivity of the gate",
    "specificity": "specificity of the gate",
    "frame_FPR": "false alarms, end to end",
    "DSC": "DSC, all frames",
    "DSC_positives": "DSC, positives",
    "passed": "frames passed",
}


def threshold_rows(trade_off: TradeOff) -> list[dict[str, Any]]:
    """Return a row of ``COLUMNS`` for each threshold at which a decision changes; measures to six places.

    Thresholds are not rounded, as they would then decide otherwise, and not thinned out either: there are at most two
    more than frames.
    """
    curve = trade_off.curve()
    columns = {
        "threshold": trade_off.thresholds,
        "passed_frames": np.rint(curve["passed"] * trade_off.frames).astype(int),
        "lost_frames": np.rint((1 - curve["sensitivity"]) * trade_off.positives).astype(int),
        **{name: values.round(6) for name, values in curve.items()},
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*(c.tolist() for c in columns.values()), strict=True)]


def plain_report(
    evaluated: EvaluatedFrames, proposals: Proposals, resampling: Mapping[str, str | int]
) -> dict[str, Any]:
    """Return the choice as objects that JSON knows.

    Args:
        evaluated: the frames.
        proposals: what was chosen on them.
        resampling: what is drawn, how often and from which seed.
    """
    results, (_, positives) = evaluated.results, proposals.always_open.gate.counts["sensitivity"]
    return {
        "option": f"--gate_threshold {proposals.proposal.threshold!r}",
        "wanted_sensitivity": proposals.sensitivity,
        "gates": {
            name.replace(" ", "_"): None if one is None else _plain(one)
            for name, one in {**proposals.named, "no further alarms": proposals.no_further_alarms}.items()
        },
        "frames": len(results),
        "positives": positives,
        "patients": len(set(results.patients)),
        "notes": evaluated.doubts(str(resampling["resample"])),
        "bootstrap": {**resampling, "level": LEVEL},
        "conventions": _CONVENTIONS,
        "evaluation": {
            "folder": str(evaluated.folder.resolve()), "part": evaluated.part, "provenance": evaluated.provenance
        },
    }  # fmt: skip


def text_report(report: Mapping[str, Any], proposals: Proposals) -> str:
    """Return the choice in words.

    Args:
        report: what :func:`plain_report` gave.
        proposals: the same.
    """
    drawn, wanted = report["bootstrap"], f"{100 * proposals.sensitivity:g} %"
    advice = [f"Pass on to inference and evaluation: {report['option']}"]
    if (safe := proposals.conservative) is None:
        advice.append(f"There is no conservative threshold: {report['positives']} positives cannot show {wanted}.")
    else:
        advice.append(f"To expect {wanted} on other frames as well: --gate_threshold {safe.threshold!r}")
    if (free := proposals.no_further_alarms) is not None:
        more = free.gate.counts["sensitivity"][0] - proposals.proposal.gate.counts["sensitivity"][0]
        advice.append(f"With --gate_threshold {free.threshold!r}, {more} more pass and no further negative.")
    return "\n\n".join(
        [
            *(f"warning: {note}" for note in report["notes"]),
            f"{report['frames']} frames of {report['patients']} patients, {report['positives']} positive. "
            f"Wanted: {wanted} of the positives pass.\n"
            f"In brackets the {100 * LEVEL:g} % confidence interval ({drawn['samples']} resamples of "
            f"{drawn['resample']}).",
            _table(proposals.named),
            "\n".join(advice),
        ]
    )


def _plain(proposal: Proposal) -> dict[str, Any]:
    counts = proposal.gate.counts
    return {
        "threshold": proposal.threshold,
        "largest_threshold": proposal.largest,
        "measures": {
            name: {"value": at.value, "low": at.low, "high": at.high}
            | (dict(zip(("frames", "of"), counts[name], strict=True)) if name in counts else {})
            for name, at in proposal.intervals.items()
        },
    }


def _table(proposals: Mapping[str, Proposal | None]) -> str:
    found = proposals.values()
    rows = [
        ["", *proposals],
        ["threshold", *("none" if one is None else f"{one.threshold:.9g}" for one in found)],
        *([label, *("" if one is None else _cell(one.intervals[name]) for one in found)]
          for name, label in _LABELS.items()),
    ]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _cell(interval: Interval) -> str:
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"

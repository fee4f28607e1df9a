"""Numbers, counts and times as a report writes them."""

from __future__ import annotations

from collections.abc import Sequence

from tools.paired import LEAST_SUBJECTS
from tools.reproduce.report.statistics import Summary
from tools.reproduce.results import Metric, Published

__all__ = [
    "MINUS",
    "bounds",
    "counted",
    "duration",
    "heading",
    "interval",
    "listed",
    "number",
    "p_value",
    "paper_figure",
    "printable",
    "signed",
    "spread",
]

MINUS = "\N{MINUS SIGN}"


def number(value: float, decimals: int) -> str:
    """Write a number with so many decimals, and thousands apart."""
    text = f"{value:,.{decimals}f}"
    return text.replace("-", MINUS) if float(text.replace(",", "")) else text.lstrip("-")


def signed(value: float, decimals: int) -> str:
    """Write a difference, whose sign always shows unless it rounds to nothing."""
    text = number(value, decimals)
    return f"+{text}" if value > 0 and float(text.replace(",", "")) else text


def interval(low: float, high: float, decimals: int, sign: bool = False) -> str:
    """Write bounds."""
    write = signed if sign else number
    return f"{write(low, decimals)} to {write(high, decimals)}"


def p_value(p: float) -> str:
    """Write a p value with three decimals, none as 0."""
    return f"{p:.3f}" if p >= 0.0005 else "< 0.001"


def counted(count: int, what: str) -> str:
    """Write a count with its noun, which takes an s in the plural."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def spread(summary: Summary, metric: Metric) -> str:
    """Write a sample's figure with its standard deviation, or say why there is none."""
    if summary.value is None:
        return "undefined: one class only"
    text = number(summary.value, metric.decimals)
    if metric.statistic != "mean":
        return text
    return f"{text} ± {number(summary.sd, metric.decimals)}" if summary.sd is not None else f"{text} (one case, no SD)"


def bounds(summary: Summary, metric: Metric) -> str:
    """Write a sample's interval, or say why there is none."""
    if summary.low is not None and summary.high is not None:
        return f"95 % CI {interval(summary.low, summary.high, metric.decimals)}"
    return f"no interval: fewer than {LEAST_SUBJECTS} subjects" if summary.subjects < LEAST_SUBJECTS else "no interval"


def paper_figure(published: Published, decimals: int) -> str:
    """Write a figure of the paper, with as many decimals as it has, at least so many."""
    written = f"{published.value:.10g}"
    own = len(written.partition(".")[2]) if "e" not in written else 0
    return " ".join(part for part in (number(published.value, max(own, decimals)), published.spread) if part)


def listed(names: Sequence[str]) -> str:
    """Write names one after the other: ``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([part for part in (", ".join(names[:-1]), names[-1]) if part])


def heading(metric: Metric) -> str:
    """Write a metric with its unit."""
    return f"{metric.title} ({metric.unit})" if metric.unit else metric.title


def duration(seconds: float | None) -> str:
    """Write a time in the two units that matter."""
    if seconds is None:
        return "not known"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left} min" if hours else f"{minutes} min {rest} s"


def printable(text: object) -> str:
    """Return a text with a mark in place of each character that a page cannot hold (control characters, surrogates)."""
    return "".join(one if one in "\n\t" or _shown(one) else "\N{REPLACEMENT CHARACTER}" for one in str(text))


def _shown(one: str) -> bool:
    return ord(one) >= 32 and not 0x7F <= ord(one) <= 0x9F and not 0xD800 <= ord(one) <= 0xDFFF

"""Small pieces that plots are made of, as SVG within a page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from common.visualize.model_colors import model_color
from tools.reproduce.report.words import printable

__all__ = ["DASHES", "Scale", "color", "dash", "drawing", "element", "text"]

# Lines of the same colour differ by their dashes.
DASHES = ("none", "6 3", "2 2")
_COLORS = 5


def element(name: str, *children: str, **attributes: object) -> Markup:
    """Write an element.

    Args:
        name: of the element.
        children: markup stays as it is, other text is escaped.
        attributes: with underscores for hyphens, ``class_`` for ``class``; numbers are written to a tenth.
    """
    written = "".join(f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"' for key, value in attributes.items())
    inner = "".join(escape(child) for child in children)
    return Markup(f"<{name}{written}>{inner}</{name}>")


def text(x: float, y: float, words: str, most: int = 60, **attributes: object) -> Markup:
    """Write a line of text; what is longer than ``most`` characters is cut, and whole in its tooltip."""
    words = printable(words)
    if len(words) <= most:
        return element("text", words, x=x, y=y, **attributes)
    return element("text", f"{words[: most - 1]}…", element("title", words), x=x, y=y, **attributes)


def drawing(width: float, height: float, label: str, *children: str) -> Markup:
    """Write a drawing that is as wide as its place, with a name for those who cannot see it."""
    return element(
        "svg", *children, viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=label, class_="plot"
    )  # fmt: skip


def color(number: int) -> str:
    """Return the colour of a model or fold, the same as in all pictures of the project."""
    return "#{:02x}{:02x}{:02x}".format(*model_color(number))


def dash(number: int) -> str:
    """Return the dashes of a line, which differ where colours begin again."""
    return DASHES[number // _COLORS % len(DASHES)]


class Scale:
    """From values to places along an axis, with room for all values between round ticks.

    Args:
        values: what has to find room; at least one.
        start: place of the lower end.
        end: place of the upper end; smaller than ``start`` where the axis points up.
        about: how many ticks are wanted.
    """

    def __init__(self, values: Sequence[float], start: float, end: float, about: int = 4) -> None:
        low, high = min(values), max(values)
        if low == high:
            low, high = (low - abs(low) / 10, high + abs(high) / 10) if low else (-1.0, 1.0)
        step = _round_step((high - low) / about)
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        self.decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        self.ticks = [at * step for at in range(first, last + 1)]
        self._low, self._span = self.ticks[0], self.ticks[-1] - self.ticks[0]
        self._start, self._length = start, end - start

    def __call__(self, value: float) -> float:
        """Return the place of a value."""
        return self._start + self._length * (value - self._low) / self._span

    def label(self, tick: float) -> str:
        """Write a tick's value."""
        if abs(tick) >= 1e5 or 0 < self._span < 1e-4:
            return f"{tick:.3g}"
        return f"{tick + 0.0:.{self.decimals}f}"


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(round_one * power for round_one in (1, 2, 5, 10) if step <= round_one * power * (1 + 1e-9))


def _value(value: object) -> Markup:
    return escape(f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else printable(value))

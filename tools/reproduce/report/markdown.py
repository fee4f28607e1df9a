"""Markdown of text from outside, and of tables."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tools.reproduce.report.tables import Cell, Table
from tools.reproduce.report.words import printable

__all__ = ["code_block", "escaped", "table_lines"]

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~$&#])")


def escaped(text: object) -> str:
    """Return a text that Markdown shows as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(printable(text).split()))


def code_block(text: str) -> list[str]:
    """Return the lines of a block that shows a text as it was typed."""
    return [f"    {line}" for line in printable(text).splitlines()]


def table_lines(table: Table, text_columns: int = 1) -> list[str]:
    """Write a table: cells on one line each, groups of columns named in the head.

    Args:
        table: the table.
        text_columns: how many columns at its left hold words.
    """
    groups = [title for title, width in table.groups for _ in range(width)] or [""] * len(table.head)
    head = [": ".join(part for part in (group, name) if part) for group, name in zip(groups, table.head, strict=True)]
    rule = ["---"] * text_columns + ["---:"] * (len(head) - text_columns)
    body = [[_cell(cell) for cell in row] for row in table.rows]
    return [_row([escaped(name) for name in head]), f"|{'|'.join(rule)}|", *map(_row, body)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    first = f"**{escaped(cell.text)}** (best)" if cell.mark == "best" else escaped(cell.text)
    return "; ".join([first, *(escaped(note) for note in cell.notes)])

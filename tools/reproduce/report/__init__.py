"""The report of a re-run table: a page, a Markdown table and the figures behind them."""

from __future__ import annotations

from tools.reproduce.report.writer import write_report

__all__ = ["write_report"]

"""Spine measures as rows of a table."""

from __future__ import annotations

from typing import Any

from common.metrics.spine_measures.measures import MEASURES, SpineMeasures

__all__ = ["MEASURE_COLUMNS", "measure_table"]

MEASURE_COLUMNS = ("case", "file", "level", *MEASURES, "missing")
_DECIMALS = {"volume_ml": 3, "disc_height_index": 3}  # else 2


def measure_table(measures: SpineMeasures, file: str) -> list[dict[str, Any]]:
    """Return the rows of one label map, numbers rounded, without the column ``case``.

    Args:
        measures: of the label map.
        file: its name.
    """
    return [{"file": file, **{key: _cell(key, value) for key, value in row.items()}} for row in measures.rows]


def _cell(key: str, value: Any) -> Any:
    return f"{value:.{_DECIMALS.get(key, 2)}f}" if isinstance(value, float) else value

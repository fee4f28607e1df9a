"""Heights, discs, slips and lordosis of the spine in a label map."""

from __future__ import annotations

from common.metrics.spine_measures.measures import LORDOSIS, MEASURES, SpineMeasures, measure_spine, meyerding_grade
from common.metrics.spine_measures.outline import Outline, Plate
from common.metrics.spine_measures.table import MEASURE_COLUMNS, measure_table

__all__ = [
    "LORDOSIS",
    "MEASURES",
    "MEASURE_COLUMNS",
    "Outline",
    "Plate",
    "SpineMeasures",
    "measure_spine",
    "measure_table",
    "meyerding_grade",
]

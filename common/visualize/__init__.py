"""Pictures of segmentations, and colour tables for the programs that show them."""

from __future__ import annotations

from common.visualize.caption import draw_caption
from common.visualize.color_tables import write_itksnap_labels, write_slicer_color_table
from common.visualize.outline import OUTLINE_COLOR, draw_outline
from common.visualize.overlay import render_overlay, save_overlay

__all__ = [
    "OUTLINE_COLOR",
    "draw_caption",
    "draw_outline",
    "render_overlay",
    "save_overlay",
    "write_itksnap_labels",
    "write_slicer_color_table",
]

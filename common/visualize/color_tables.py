"""Names and colours of the structures, in the files that 3D Slicer and ITK-SNAP read."""

from __future__ import annotations

import os

from common.data.atomic import write_text
from common.data.label_scheme import BACKGROUND, LabelScheme, Structure

__all__ = ["write_itksnap_labels", "write_slicer_color_table"]

_ITKSNAP_HEADER = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
# Fields:
#    IDX:   Zero-based index
#    -R-:   Red color component (0..255)
#    -G-:   Green color component (0..255)
#    -B-:   Blue color component (0..255)
#    -A-:   Label transparency (0.00 .. 1.00)
#    VIS:   Label visibility (0 or 1)
#    MSH:   Label mesh visibility (0 or 1)
#  LABEL:   Label description
################################################
"""


def write_slicer_color_table(scheme: LabelScheme, path: str | os.PathLike) -> None:
    """Write a colour table (``.ctbl``) for 3D Slicer: lines of value, name, red, green, blue, opacity (each 0..255).

    Args:
        scheme: gives the structures: those that its network knows, with the values of written label maps.
        path: where the file shall be.

    Raises:
        InputError: the file cannot be written.
    """
    structures = _by_value(scheme)
    # Slicer recognises the format by the first words of the first line where the name ends in .txt.
    lines = [f"# Color table file for label maps of {scheme.name}", f"# {len(structures) + 1} values"]
    lines.append(f"0 {BACKGROUND} 0 0 0 0")
    for structure in structures:
        name = "_".join(structure.name.split())  # a space would end the name; Slicer shows underscores as spaces
        lines.append(" ".join(str(part) for part in (structure.value, name, *structure.color, 255)))
    write_text(path, "\n".join(lines) + "\n")


def write_itksnap_labels(scheme: LabelScheme, path: str | os.PathLike) -> None:
    """Write a label description file for ITK-SNAP (Segmentation, Import Label Descriptions).

    Args:
        scheme: gives the structures: those that its network knows, with the values of written label maps.
        path: where the file shall be.

    Raises:
        InputError: the file cannot be written.
    """
    rows = [(0, (0, 0, 0), 0, "Clear Label")]
    rows += [(structure.value, structure.color, 1, structure.name) for structure in _by_value(scheme)]
    lines = [
        f'{value:5d} {red:5d} {green:4d} {blue:4d} {shown:8d} {shown:2d} {shown:2d}    "{name}"'
        for value, (red, green, blue), shown, name in rows
    ]
    write_text(path, _ITKSNAP_HEADER + "\n".join(lines) + "\n")


def _by_value(scheme: LabelScheme) -> list[Structure]:
    return sorted(scheme.structures, key=lambda structure: structure.value)

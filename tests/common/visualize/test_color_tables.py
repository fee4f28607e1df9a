from __future__ import annotations

import re

import pytest

from common.data.label_scheme import LabelScheme
from common.errors import InputError
from common.visualize import write_itksnap_labels, write_slicer_color_table

SCHEMES = ("mrspineseg17", "mrspineseg19")


def expected(scheme: LabelScheme) -> dict[int, tuple[str, tuple[int, int, int]]]:
    return {structure.value: (structure.name, structure.color) for structure in scheme.structures}


def lines_of(path) -> list[str]:
    data = path.read_bytes()
    assert b"\r" not in data and data.endswith(b"\n")
    return data.decode("utf-8").splitlines()


@pytest.mark.parametrize("name", SCHEMES)
def test_slicer_table_reads_back_as_the_scheme(name, tmp_path):
    scheme = LabelScheme.load(name)
    write_slicer_color_table(scheme, tmp_path / "tables" / "spine.ctbl")
    lines = lines_of(tmp_path / "tables" / "spine.ctbl")
    assert lines[0].startswith("# Color table file")  # by which Slicer tells the format
    rows = [line.split(" ") for line in lines if not line.startswith("#")]
    assert rows[0] == ["0", "background", "0", "0", "0", "0"]
    assert all(len(row) == 6 and row[5] == "255" for row in rows[1:])
    found = {int(row[0]): (row[1], tuple(map(int, row[2:5]))) for row in rows[1:]}
    assert found == expected(scheme) and list(found) == sorted(found)
    assert found[11][0] == "L5/S" and (10 in found) == (name == "mrspineseg19")


@pytest.mark.parametrize("name", SCHEMES)
def test_itksnap_labels_read_back_as_the_scheme(name, tmp_path):
    scheme = LabelScheme.load(name)
    write_itksnap_labels(scheme, tmp_path / "spine.txt")
    lines = lines_of(tmp_path / "spine.txt")
    assert "# ITK-SnAP Label Description File" in lines and "# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL" in lines
    rows = []
    for line in lines:
        if not line.startswith("#"):
            row = re.fullmatch(r'\s*(\d+) +(\d+) +(\d+) +(\d+) +([\d.]+) +([01]) +([01]) +"([^"]*)"', line)
            rows.append((*map(int, row.groups()[:4]), *map(float, row.groups()[4:7]), row[8]))
    assert rows[0] == (0, 0, 0, 0, 0, 0, 0, "Clear Label")
    assert all(row[4:7] == (1, 1, 1) for row in rows[1:])
    assert {row[0]: (row[7], row[1:4]) for row in rows[1:]} == expected(scheme)


@pytest.mark.parametrize("write", [write_slicer_color_table, write_itksnap_labels])
def test_table_that_cannot_be_written_is_one_clear_line(write, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write(LabelScheme.load("mrspineseg17"), tmp_path / "file" / "table")

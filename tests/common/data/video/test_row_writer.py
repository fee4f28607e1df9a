from __future__ import annotations

from pathlib import Path

import pytest

from common.data.video.row_writer import RowWriter
from common.errors import InputError


def test_rows_are_there_as_soon_as_they_are_written(tmp_path):
    writer = RowWriter(tmp_path / "new" / "a.csv", ("frame", "area"))
    writer.write((0, 12))
    assert (tmp_path / "new" / "a.part.csv").read_text(encoding="utf-8") == "frame,area\n0,12\n"
    writer.write((1, "é,"))
    writer.close()
    assert writer.rows == 2
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.csv"]
    assert (tmp_path / "new" / "a.csv").read_text(encoding="utf-8") == 'frame,area\n0,12\n1,"é,"\n'


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.csv: cannot be written \(.*; free space or choose another output_dir"):
        RowWriter(tmp_path / "file" / "a.csv", ("frame",))


def test_a_full_disk(tmp_path):
    full = Path("/dev/full")  # Linux has a file that is always full
    if not full.exists():
        pytest.skip(f"this system has no {full}")
    (tmp_path / "a.part.csv").symlink_to(full)
    with pytest.raises(InputError, match=r"a\.csv: cannot be written \(No space left on device\)"):
        RowWriter(tmp_path / "a.csv", ("frame",))

from __future__ import annotations

import numpy as np
import pytest

from common.data.nrrd_header import check_nrrd_header
from common.data.scan_reader import read_scan
from common.errors import InputError
from tests.scan_files import picture, write_itk


def with_line(path, line: str):
    """Put a line behind the first one of a header."""
    magic, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(magic + b"\n" + line.encode() + b"\n" + rest)
    return path


@pytest.fixture
def scan(tmp_path):
    return write_itk(tmp_path / "a.nrrd", picture(), np.eye(4))


class TestCheckNrrdHeader:
    @pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr"])
    @pytest.mark.parametrize("compress", [False, True])
    def test_what_itk_writes_passes(self, tmp_path, name, compress):
        check_nrrd_header(write_itk(tmp_path / name, picture(), np.eye(4), compress))

    @pytest.mark.parametrize("start", ["# ", "key:=", "a key:=", "content: "])
    def test_long_texts_pass(self, scan, start):
        check_nrrd_header(with_line(scan, start + "a" * 100_000))
        assert (read_scan(scan)[0] == picture()).all()

    @pytest.mark.parametrize("start", ["kinds: ", "old min: ", "encoding: :=", "unknown", "unknown: a:="])
    def test_long_fields_at_which_itk_crashes(self, scan, start):
        with_line(scan, start + "a" * 3000)
        with pytest.raises(InputError) as error:
            read_scan(scan)
        assert str(error.value) == (
            f"{scan}: cannot be read as NRRD (a line of its header is longer than 500 bytes); "
            "check or re-export the file"
        )

    def test_long_fields_behind_a_long_comment(self, scan):
        with_line(with_line(scan, "kinds: " + "a" * 3000), "# " + "b" * 5000)
        with pytest.raises(InputError, match="longer than 500 bytes"):
            check_nrrd_header(scan)

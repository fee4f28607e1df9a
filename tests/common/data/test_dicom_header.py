from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from common.data.dicom_header import is_dicom, read_header
from tests.dicom_files import MR, SERIES, dataset, element, slice_elements, write_dicom, write_enhanced, write_report

VOXELS = np.arange(60, dtype=np.int16).reshape(5, 4, 3)
AFFINE = np.diag([2.0, 3.0, 4.0, 1.0])


def recoded(path, syntax: str, content: bytes) -> None:
    """Write a file of another transfer syntax."""
    head = dataset({0x00020002: ("UI", MR), 0x00020010: ("UI", syntax)})
    path.write_bytes(b"\0" * 128 + b"DICM" + element(0x00020000, "UL", struct.pack("<I", len(head))) + head + content)


class TestReadHeader:
    def test_a_slice(self, tmp_path):
        header = read_header(write_dicom(tmp_path / "a", slice_elements(VOXELS, AFFINE, 2)))
        assert header.problem is None and header.pixels
        assert header.text(0x0020000E) == SERIES + ".10"
        assert header.numbers(0x00200032) == (0, 0, 8) and header.numbers(0x00280030) == (3, 2)
        assert (header.short(0x00280011), header.short(0x00280010)) == (5, 4)
        assert header.numbers(0x00281053) == () and header.short(0x00281053) == 0

    def test_sequences(self, tmp_path):
        header = read_header(write_enhanced(tmp_path / "a", VOXELS, AFFINE, rescale=[(2, 1)] * 3))
        assert [group.first(0x00209113).numbers(0x00200032) for group in header[0x52009230]] == [
            (0, 0, 0),
            (0, 0, 4),
            (0, 0, 8),
        ]
        assert header[0x52009230][1].first(0x00289145).numbers(0x00281053) == (2,)
        assert header.first(0x52009229).first(0x00289110).numbers(0x00280030) == (3, 2)
        assert header.first(0x00209111) == {}

    def test_implicit_and_undefined_length(self, tmp_path):
        def plain(tag, value):
            return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value

        def bare(group, number):
            return struct.pack("<HHI", group, number, 0xFFFFFFFF)

        end_item, end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0), struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
        place = bare(0x20, 0x9113) + bare(0xFFFE, 0xE000) + plain(0x00200032, b"1\\2\\3 ") + end_item + end
        content = bare(0x8, 0x1140) + bare(0xFFFE, 0xE000) + end_item + end  # a sequence that nobody asks for
        content += plain(0x0020000E, b"1.2\0") + bare(0x5200, 0x9230) + bare(0xFFFE, 0xE000) + place + end_item + end
        recoded(tmp_path / "a", "1.2.840.10008.1.2", content)
        header = read_header(tmp_path / "a")
        assert header.problem is None and not header.pixels and header.text(0x0020000E) == "1.2"
        assert header[0x52009230][0].first(0x00209113).numbers(0x00200032) == (1, 2, 3)

    def test_deflated(self, tmp_path):
        packer = zlib.compressobj(wbits=-15)
        content = packer.compress(dataset({0x0020000E: ("UI", "1.2.3")})) + packer.flush()
        recoded(tmp_path / "a", "1.2.840.10008.1.2.1.99", content)
        assert read_header(tmp_path / "a").text(0x0020000E) == "1.2.3"
        recoded(tmp_path / "a", "1.2.840.10008.1.2.1.99", content[:-4])
        assert read_header(tmp_path / "a").problem == "its deflated content is cut off"

    def test_compressed_pixels(self, tmp_path):
        fragments = struct.pack("<HHI", 0xFFFE, 0xE000, 0) + struct.pack("<HHI4s", 0xFFFE, 0xE000, 4, b"\xff\xd8ab")
        pixels = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + fragments
        recoded(tmp_path / "a", "1.2.840.10008.1.2.4.70", pixels + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0))
        header = read_header(tmp_path / "a")
        assert header.pixels and header.problem is None
        recoded(tmp_path / "a", "1.2.840.10008.1.2.4.70", pixels[:-2])
        assert read_header(tmp_path / "a").problem == "its compressed pixels are cut off"

    def test_big_endian(self, tmp_path):
        recoded(tmp_path / "a", "1.2.840.10008.1.2.2", struct.pack(">HH2sHH", 0x28, 0x10, b"US", 2, 7))
        assert read_header(tmp_path / "a").short(0x00280010) == 7

    def test_no_image(self, tmp_path):
        header = read_header(write_report(tmp_path / "a"))
        assert not header.pixels and header.problem is None and header.text(0x00080060) == "SR"

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (b"", "the file is too short"),
            (b"x" * 200, "it does not start like DICOM"),
            (b"\0" * 128 + b"DICM", "it names no transfer syntax"),
            (b"\0" * 128 + b"DICM" + b"\2\0\1\0ob\0\0\0\0\0\0", "its element (0002,0001) is malformed"),
            (b"\0" * 128 + b"DICM" + b"\2\0\1\0UG\0\0\0\0\0\0", "its element (0002,0001) is malformed"),
            (b"\0" * 128 + b"DICM" + b"\2\0\1\0OB\0\0\xf0\0\0\0", "the file is cut off"),
        ],
    )
    def test_damaged(self, tmp_path, content, problem):
        (tmp_path / "a").write_bytes(content)
        assert read_header(tmp_path / "a").problem == problem

    @pytest.mark.parametrize(
        ("tail", "problem"),
        [
            (b"\0", None),
            (element(0xFFFCFFFC, "OB", bytes(6)), None),  # data set trailing padding
            (b"\3\0\4\0\5\0\6\0", "its element (0003,0004) is malformed"),
            (struct.pack("<HH2sHI", 0x7FE1, 0x10, b"OB", 0, 1 << 30), "the file is cut off"),
            (struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + b"abc", "there are stray bytes behind its pixels"),
        ],
    )
    def test_behind_the_pixels(self, tmp_path, tail, problem):
        path = write_dicom(tmp_path / "a", slice_elements(VOXELS, AFFINE, 0))
        path.write_bytes(path.read_bytes() + tail)
        assert read_header(path).problem == problem

    def test_pixels_that_are_cut_off(self, tmp_path):
        path = write_dicom(tmp_path / "a", slice_elements(VOXELS, AFFINE, 0))
        path.write_bytes(path.read_bytes()[:-10])
        assert read_header(path).problem == "it holds 30 of 40 bytes of pixels"
        assert is_dicom(path)

"""The header of a DICOM file, with the sequences that SimpleITK does not show."""

from __future__ import annotations

import mmap
import os
import zlib
from pathlib import Path
from typing import Any

__all__ = ["Dataset", "is_dicom", "read_header"]

_DEFLATED = "1.2.840.10008.1.2.1.99"
_IMPLICIT = "1.2.840.10008.1.2"
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXELS = 0x7FE00010
_LONG_FORMS = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_SHORT_FORMS = set(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_MAX_DEPTH = 12
_MAX_INFLATED = 1 << 31  # bytes

# The elements that are kept; all others are passed over.
_SEQUENCES = {0x52009229, 0x52009230, 0x00209113, 0x00209116, 0x00289110, 0x00289145}
_VALUES = {
    0x00020010,  # transfer syntax
    0x00080005,  # character set
    0x00080060,  # modality
    0x0008103E,  # series description
    0x00100020,  # patient
    0x0020000D,  # study
    0x0020000E,  # series
    0x00200011,  # series number
    0x00200032,  # position (mm)
    0x00200037,  # orientation
    0x00200052,  # frame of reference
    0x00280002,  # samples per pixel
    0x00280008,  # number of frames
    0x00280010,  # rows
    0x00280011,  # columns
    0x00280030,  # pixel spacing (mm)
    0x00280100,  # bits allocated
    0x00281052,  # rescale intercept
    0x00281053,  # rescale slope
}


class Dataset(dict):
    """Elements of a DICOM file: tag (0xGGGGEEEE) to bytes, or to a list of datasets for a sequence.

    Attributes:
        little: whether binary numbers are little-endian.
        pixels: whether there is an element with pixels.
        problem: why the file could not be read to the end of its pixels, or None.
    """

    def __init__(self, little: bool = True) -> None:
        super().__init__()
        self.little, self.pixels, self.problem = little, False, None

    def text(self, tag: int, encoding: str = "latin-1") -> str:
        """Return a text, '' where the element is missing."""
        value = self.get(tag, b"")
        return value.decode(encoding, "replace").strip(" \0") if isinstance(value, bytes) else ""

    def short(self, tag: int) -> int:
        """Return an unsigned 16-bit number, 0 where the element is missing."""
        value = self.get(tag, b"")
        return int.from_bytes(value[:2], "little" if self.little else "big") if isinstance(value, bytes) else 0

    def numbers(self, tag: int) -> tuple[float, ...]:
        """Return decimal numbers, () where the element is missing.

        Raises:
            ValueError: they are no numbers.
        """
        text = self.text(tag)
        return tuple(float(part) for part in text.split("\\")) if text else ()

    def first(self, tag: int) -> Dataset:
        """Return a sequence's first item, an empty dataset where there is none."""
        items = self.get(tag)
        return items[0] if isinstance(items, list) and items else Dataset(self.little)


def is_dicom(path: str | os.PathLike) -> bool:
    """Say whether a file starts like DICOM (a preamble of 128 bytes, then ``DICM``).

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_header(path: str | os.PathLike) -> Dataset:
    """Read a DICOM file up to its pixels, and make sure that those are all there, and nothing stray behind them.

    Args:
        path: a file with preamble, in any transfer syntax.

    Returns:
        What was found; its ``problem`` tells of a damaged file.

    Raises:
        OSError: the file cannot be read.
    """
    header = Dataset()
    with open(Path(path), "rb") as file:
        if os.fstat(file.fileno()).st_size < 132:
            header.problem = "the file is too short"
            return header
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                _read(data, header)
            except (ValueError, zlib.error) as error:
                header.problem = str(error)
    return header


def _read(data: Any, header: Dataset) -> None:
    if data[128:132] != b"DICM":
        raise ValueError("it does not start like DICOM")
    start = _Parser(data).elements(132, len(data), header, explicit=True, stop_group=0x0002)
    syntax = header.text(0x00020010)
    if not syntax:
        raise ValueError("it names no transfer syntax")
    if syntax == _DEFLATED:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        data, start = inflater.decompress(data[start:], _MAX_INFLATED), 0
        if not inflater.eof:
            raise ValueError("its deflated content is cut off")
    header.little = syntax != _BIG_ENDIAN
    parser = _Parser(data, header.little)
    offset = parser.elements(start, len(data), header, explicit=syntax != _IMPLICIT)
    if parser.pixel_length is None:
        return
    header.pixels = True
    if parser.pixel_length == _UNDEFINED:
        end = parser.fragments(offset)
    else:
        end = offset + parser.pixel_length
        frames = max(int(header.text(0x00280008) or 1), 1)
        samples = frames * header.short(0x00280010) * header.short(0x00280011) * max(header.short(0x00280002), 1)
        expected = (samples * header.short(0x00280100) + 7) // 8
        if end > len(data) or parser.pixel_length < expected:
            there = min(len(data) - offset, parser.pixel_length)
            raise ValueError(f"it holds {there} of {max(expected, parser.pixel_length)} bytes of pixels")
    # GDCM reads on behind the pixels, and makes room for as much as a stray length there says.
    if data[end:].strip(b"\0") and parser.elements(end, len(data), Dataset(), syntax != _IMPLICIT) != len(data):
        raise ValueError("there are stray bytes behind its pixels")


class _Parser:
    """A walk through the elements of one file."""

    def __init__(self, data: Any, little: bool = True) -> None:
        self.data, self.little = data, little
        self.pixel_length: int | None = None

    def _number(self, position: int, size: int, end: int) -> int:
        if position + size > end:
            raise ValueError("the file is cut off")
        return int.from_bytes(self.data[position : position + size], "little" if self.little else "big")

    def _tag(self, position: int, end: int) -> int:
        return self._number(position, 2, end) << 16 | self._number(position + 2, 2, end)

    def elements(
        self, position: int, end: int, found: Dataset, explicit: bool, depth: int = 0, stop_group: int | None = None
    ) -> int:
        """Collect elements until the end, an item's end, the pixels, or the end of a group; return where that is."""
        if depth > _MAX_DEPTH:
            raise ValueError("its sequences are nested too deep")
        while position < end:
            tag = self._tag(position, end)
            if tag == _ITEM_END:
                return position + 8
            if stop_group is not None and tag >> 16 != stop_group:
                return position
            kind = b""
            if explicit and tag >> 16 != 0xFFFE:
                kind = bytes(self.data[position + 4 : position + 6])
                wide = kind in _LONG_FORMS
                if not wide and kind not in _SHORT_FORMS:
                    raise ValueError(f"its element ({tag >> 16:04x},{tag & 0xFFFF:04x}) is malformed")
                length = self._number(position + (8 if wide else 6), 4 if wide else 2, end)
                position += 12 if wide else 8
            else:
                length = self._number(position + 4, 4, end)
                position += 8
            if tag == _PIXELS and depth == 0:
                self.pixel_length = length
                return position
            if length != _UNDEFINED and position + length > end:
                raise ValueError("the file is cut off")
            if length == _UNDEFINED or tag in _SEQUENCES:
                items, position = self._items(position, end, length, explicit and kind != b"UN", depth + 1)
                if tag in _SEQUENCES:
                    found[tag] = items
                continue
            if tag in _VALUES:
                found[tag] = bytes(self.data[position : position + length])
            position += length
        return position

    def _items(self, position: int, end: int, length: int, explicit: bool, depth: int) -> tuple[list[Dataset], int]:
        items: list[Dataset] = []
        stop = end if length == _UNDEFINED else position + length
        while position < stop:
            tag, size = self._tag(position, stop), self._number(position + 4, 4, stop)
            position += 8
            if tag == _SEQUENCE_END:
                return items, position
            if tag != _ITEM or (size != _UNDEFINED and position + size > stop):
                raise ValueError("one of its sequences is malformed")
            item = Dataset(self.little)
            position = self.elements(position, stop if size == _UNDEFINED else position + size, item, explicit, depth)
            items.append(item)
        if length == _UNDEFINED:
            raise ValueError("the file is cut off")
        return items, position

    def fragments(self, position: int) -> int:
        """Make sure that compressed pixels are there to their end; return where that is."""
        end = len(self.data)
        while True:
            tag, size = self._tag(position, end), self._number(position + 4, 4, end)
            position += 8
            if tag == _SEQUENCE_END:
                return position
            if tag != _ITEM or position + size > end:
                raise ValueError("its compressed pixels are cut off")
            position += size

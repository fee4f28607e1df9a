"""The header of a MetaImage file, looked at before ITK does."""

from __future__ import annotations

import math
import os
import re
import zlib
from pathlib import Path

import numpy as np

from common.errors import InputError

__all__ = ["check_meta_image"]

_MAX_HEADER = 1 << 18  # bytes
_BYTES = {
    "CHAR": 1,
    "UCHAR": 1,
    "SHORT": 2,
    "USHORT": 2,
    "INT": 4,
    "UINT": 4,
    "LONG": 4,
    "ULONG": 4,
    "LONG_LONG": 8,
    "ULONG_LONG": 8,
    "FLOAT": 4,
    "DOUBLE": 8,
}
# Fields that hold as many numbers as there are axes, the square of that, and one: ITK stops at any that do not.
_SPACINGS = ("ElementSpacing", "ElementSize")
_VECTORS = ("DimSize", "Offset", "Position", "Origin", *_SPACINGS, "CenterOfRotation", "SequenceID")
_MATRICES = ("TransformMatrix", "Orientation", "Rotation")
_SCALARS = (
    "HeaderSize", "CompressedDataSize", "ElementNumberOfChannels", "ElementNBits", "ElementMin", "ElementMax",
    "ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset", "ID", "ParentID",
)  # fmt: skip
_FLAGS = ("BinaryData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "CompressedData")
# As ITK divides it, which stops at lines that are longer than its buffer.
_LINE = re.compile(rb"\s*([\w|.-][\w|. -]{,250}?)[ \t]*=[=: \t]*+([^\0-\x08\n-\x1f]{,480})\r?\n")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def check_meta_image(path: str | os.PathLike) -> None:
    """Make sure that a MetaImage file (``.mha``, ``.mhd``) says what it has to, and is as long as it says.

    ITK prints several lines of its own about a bad file, takes a negative spacing for 1, an origin that is not a
    number for 0 and whatever is in the memory for voxels that are missing: here these are one error.

    Args:
        path: the file.

    Raises:
        InputError: a line is missing or wrong, or voxels are.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(_MAX_HEADER)
        _check(Path(path), head)
    except (ValueError, zlib.error, OSError) as error:
        remedy = "check or re-export the file"
        raise InputError(path, f"cannot be read as MetaImage ({error})", remedy) from error


def _check(path: Path, head: bytes) -> None:
    fields, end = _fields(head)
    dimensions = fields.get("NDims", "")
    if not re.fullmatch(r"[1-9]|10", dimensions):
        raise ValueError("its NDims is missing or wrong")
    counts = dict.fromkeys(_VECTORS, int(dimensions)) | dict.fromkeys(_MATRICES, int(dimensions) ** 2)
    order = list(fields)
    if early := [name for name in order[: order.index("NDims")] if name in counts]:
        raise ValueError(f"its {early[0]} stands before NDims")
    counts |= dict.fromkeys(_SCALARS, 1) | {"Color": 4}
    numbers = {name: _numbers(name, fields[name], count) for name, count in counts.items() if name in fields}
    flags = {name: _flag(name, fields[name]) for name in _FLAGS if name in fields}
    size = _whole("DimSize", numbers, ())
    if not size or min(size) < 1:
        raise ValueError("its DimSize is missing or not positive")
    if any(value <= 0 for name in _SPACINGS for value in numbers.get(name, ())):
        raise ValueError("its ElementSpacing is not positive")
    kind = fields.get("ElementType", "").removeprefix("MET_")
    if kind not in _BYTES:
        raise ValueError(f"its ElementType {kind} is not known" if kind else "its ElementType is missing")
    voxels = int(np.prod([*size, *_whole("ElementNumberOfChannels", numbers, (1,))], dtype=object))
    (skipped,), (packed,) = (_whole(name, numbers, (0,)) for name in ("HeaderSize", "CompressedDataSize"))
    compressed, text = flags.get("CompressedData", False), not flags.get("BinaryData", True)
    if voxels < 1 or skipped < -1 or packed < 0 or (compressed and text) or (skipped < 0 and (compressed or text)):
        raise ValueError("its header contradicts itself")

    data = fields["ElementDataFile"]
    local = data in ("LOCAL", "Local", "local")
    if local and 0 < skipped < end:
        raise ValueError("its HeaderSize is shorter than the header")
    if local and compressed and not packed:
        raise ValueError("its CompressedDataSize is missing")
    files = [path] if local else [path.parent / name for name in _data_files(data, size[-1], head[end:])]
    if len(files) > 1 and compressed:
        raise ValueError("its slices are compressed one by one")
    for file in files:
        if not file.is_file():
            raise ValueError(f"its data file {file.name} does not exist")
        start = max(skipped or (end if local else 0), 0)
        there, count = max(file.stat().st_size - start, 0), voxels // len(files)
        if text:
            _check_text(file, start, count)
        elif compressed:
            _check_stream(file, start, packed or there, count * _BYTES[kind])
        if there < (packed if compressed else 0 if text else count * _BYTES[kind]):
            raise ValueError(f"{file.name} holds {there} of {count * _BYTES[kind]} bytes of voxels")


def _fields(head: bytes) -> tuple[dict[str, str], int]:
    """Return the lines by name, and where the header ends."""
    fields: dict[str, str] = {}
    offset = 0
    while "ElementDataFile" not in fields:
        line = _LINE.match(head, offset)
        if not line:
            raise ValueError("its header is malformed or cut off")
        name, value = (part.decode("latin-1").strip() for part in line.groups())
        if name in fields:
            raise ValueError(f"its header has two lines {name}")
        fields[name], offset = value, line.end()
    return fields, offset


def _numbers(name: str, text: str, count: int) -> list[float]:
    values = [float(part) if _NUMBER.fullmatch(part) else math.nan for part in text.split()]
    if len(values) != count or not np.isfinite(values).all():
        raise ValueError(f"its {name} is not {'a number' if count == 1 else f'{count} numbers'}")
    return values


def _whole(name: str, numbers: dict[str, list[float]], default: tuple[int, ...]) -> tuple[int, ...]:
    values = numbers.get(name, default)
    if any(value != int(value) for value in values):
        raise ValueError(f"its {name} is not whole")
    return tuple(map(int, values))


def _flag(name: str, text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError(f"its {name} is neither True nor False")
    return text.lower() in ("true", "1")


def _data_files(data: str, slices: int, following: bytes) -> list[str]:
    """Return the names of the files with voxels: one, or one for each slice."""
    if data.startswith("LIST"):
        names = [line.decode("utf-8", "surrogateescape").strip() for line in following.split(b"\n")[:slices]]
        if not re.fullmatch(r"LIST( 2D?)?", data) or len(names) < slices or not all(names):
            raise ValueError(f"its list of files is not one of {slices} slices")
        return names
    if "%" not in data:
        return [data.encode("latin-1").decode("utf-8", "surrogateescape")]
    pattern = re.fullmatch(r"([^%\s]*%0?\d?d[^%\s]*) +(\d{1,9}) +(\d{1,9}) +([1-9]\d{,8})", data)
    if not pattern or len(numbers := range(int(pattern[2]), int(pattern[3]) + 1, int(pattern[4]))) != slices:
        raise ValueError(f"its pattern {data} does not name {slices} slices (NAME%03d.raw FIRST LAST STEP)")
    return [pattern[1] % number for number in numbers]


def _check_text(path: Path, offset: int, count: int) -> None:
    """Make sure that a file holds so many numbers, each with a character behind it, which ITK wants."""
    with open(path, "rb") as file:
        file.seek(offset)
        words = re.split(rb"\s+|,\s*", file.read().lstrip())[:-1]
    if len(words) < count or not all(_NUMBER.fullmatch(word.decode("latin-1")) for word in words[:count]):
        raise ValueError(f"{path.name} does not hold {count} numbers and an end of line")


def _check_stream(path: Path, offset: int, length: int, wanted: int) -> None:
    """Make sure that a compressed stream of a length holds all voxels, without keeping them."""
    inflater, there = zlib.decompressobj(zlib.MAX_WBITS | 32), 0
    with open(path, "rb") as file:
        file.seek(offset)
        while not inflater.eof and there <= wanted and (block := file.read(min(1 << 20, length))):
            length -= len(block)
            while block and not inflater.eof and there <= wanted:
                there += len(inflater.decompress(block, 1 << 24))
                block = inflater.unconsumed_tail
    if there != wanted or not inflater.eof:
        raise ValueError(f"{path.name} holds {there} of {wanted} bytes of voxels")

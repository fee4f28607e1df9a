"""The header of a MetaImage file, looked at before ITK does."""

from __future__ import annotations

import os
import re
import zlib
from pathlib import Path

import numpy as np

from common.errors import InputError

__all__ = ["check_meta_image"]

_MAX_HEADER = 1 << 16  # bytes
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


def check_meta_image(path: str | os.PathLike) -> None:
    """Make sure that a MetaImage file (``.mha``, ``.mhd``) says what it has to, and is as long as it says.

    ITK prints several lines of its own about a bad file, takes a negative spacing for 1 and an origin that is not a
    number for 0: here these are one error.

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
        if isinstance(error, InputError):
            raise
        remedy = "check or re-export the file"
        raise InputError(path, f"cannot be read as MetaImage ({error})", remedy) from error


def _check(path: Path, head: bytes) -> None:
    fields: dict[str, str] = {}
    offset = 0
    while "ElementDataFile" not in fields:
        end = head.find(b"\n", offset)
        key, equals, value = head[offset:end].partition(b"=")
        if end < 0 or not equals or not re.fullmatch(rb"\s*[\w|. -]+", key):
            raise ValueError("its header is malformed or cut off")
        fields[key.decode("latin-1").strip()] = value.decode("latin-1").strip()
        offset = end + 1

    dimensions = int(fields.get("NDims", 0))
    size = [int(part) for part in fields.get("DimSize", "").split()]
    if not 1 <= dimensions <= 10 or len(size) != dimensions or min(size) < 1:
        raise ValueError("its DimSize is missing or not positive")
    spacing = _numbers(fields, "ElementSpacing", "ElementSize", count=dimensions)
    if any(value <= 0 for value in spacing):
        raise ValueError("its ElementSpacing is not positive")
    _numbers(fields, "Offset", "Position", "Origin", count=dimensions)
    _numbers(fields, "TransformMatrix", "Orientation", "Rotation", count=dimensions**2)
    kind = fields.get("ElementType", "").removeprefix("MET_")
    if kind not in _BYTES:
        raise ValueError(f"its ElementType {kind or 'is missing'} is not known".replace("is missing is", "is"))
    channels = int(fields.get("ElementNumberOfChannels", 1))
    wanted = int(np.prod([*size, channels], dtype=object)) * _BYTES[kind]
    data = fields["ElementDataFile"]
    if data == "LIST" or "%" in data or fields.get("BinaryData", "True").lower() != "true":
        return  # a file for each slice, or numbers as text: ITK's business
    if data != "LOCAL":
        path, offset = path.parent / data, max(int(fields.get("HeaderSize", 0)), 0)
        if not path.is_file():
            raise ValueError(f"its data file {data} does not exist")
    if fields.get("CompressedData", "False").lower() == "true":
        _inflate(path, offset, wanted)
    elif path.stat().st_size - offset < wanted:
        raise ValueError(f"{path.name} holds {path.stat().st_size - offset} of {wanted} bytes of voxels")


def _numbers(fields: dict[str, str], *names: str, count: int) -> list[float]:
    for name in names:
        if name in fields:
            values = [float(part) for part in fields[name].split()]
            if len(values) != count or not np.isfinite(values).all():
                raise ValueError(f"its {name} is not {count} numbers")
            return values
    return []


def _inflate(path: Path, offset: int, wanted: int) -> None:
    """Make sure that a compressed stream holds all voxels, without keeping them."""
    inflater, there = zlib.decompressobj(zlib.MAX_WBITS | 32), 0
    with open(path, "rb") as file:
        file.seek(offset)
        while not inflater.eof and there <= wanted and (block := file.read(1 << 20)):
            while block and not inflater.eof and there <= wanted:
                there += len(inflater.decompress(block, 1 << 24))
                block = inflater.unconsumed_tail
    if there != wanted or not inflater.eof:
        raise ValueError(f"{path.name} holds {there} of {wanted} bytes of voxels")

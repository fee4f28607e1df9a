"""Tell a media file that was cut off by the length that it states itself.

A demultiplexer ends quietly where such a file ends, as it does at the end of a whole one.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

__all__ = ["is_cut_off"]

_EBML = b"\x1a\x45\xdf\xa3"
_EBML_SEGMENT = b"\x18\x53\x80\x67"
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def is_cut_off(path: str | os.PathLike) -> bool:
    """Return whether a file is shorter than its own header says.

    Known are MP4 and QuickTime (boxes), Matroska and WebM (size of the segment), AVI (size of the first RIFF chunk) and
    ASF (file properties). False for others, for those that do not state a size (a recording that was killed), and for
    what is no such file.

    Args:
        path: a file that can be read.
    """
    length = Path(path).stat().st_size
    with open(path, "rb") as file:
        head = file.read(4096)
        try:
            if head[:4] == b"RIFF":
                return struct.unpack_from("<I", head, 4)[0] + 8 > length
            if head[:4] == _EBML:
                return _segment_end(head) > length
            if _ASF_FILE_PROPERTIES in head:
                return struct.unpack_from("<Q", head, head.index(_ASF_FILE_PROPERTIES) + 40)[0] > length
            return head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide") and _boxes_end(file) > length
        except (struct.error, IndexError):
            return True  # the header itself is cut off


def _segment_end(head: bytes) -> int:
    """Return where a Matroska file's segment ends; 0 where it does not say."""
    start, size, _ = _ebml_size(head, 4)
    start += size
    if head[start : start + 4] != _EBML_SEGMENT:
        return 0
    start, size, known = _ebml_size(head, start + 4)
    return start + size if known else 0


def _ebml_size(head: bytes, at: int) -> tuple[int, int, bool]:
    """Return where an element's content begins, its size, and whether that is known (RFC 8794, 4 and 6.2)."""
    width = 9 - head[at].bit_length()
    if at + width > len(head):
        raise IndexError
    bits = 7 * width
    size = int.from_bytes(head[at : at + width], "big") & ((1 << bits) - 1)
    return at + width, size, size != (1 << bits) - 1


def _boxes_end(file: BinaryIO) -> int:
    """Return where the last of a file's top-level boxes ends (ISO/IEC 14496-12, 4.2)."""
    at = 0
    while True:
        file.seek(at)
        head = file.read(16)
        if not head:
            return at
        (size,) = struct.unpack_from(">I", head)
        if size == 1:
            (size,) = struct.unpack_from(">Q", head, 8)
        if size < 8:  # 0: up to the end of the file; else: no box
            return at
        at += size

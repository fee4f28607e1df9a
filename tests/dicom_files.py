"""DICOM files made for tests: classic slices and enhanced multi-frame, explicit VR little-endian."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

MR, ENHANCED_MR, SR = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.88.11"
SERIES = "1.2.826.0.1.3680043.2.1143.7"
_LONG_FORMS = ("OB", "OW", "SQ", "UN", "UT")


def element(tag: int, kind: str, value: Any) -> bytes:
    """Encode one element; a sequence's value is a list of encoded items."""
    if kind == "SQ":
        content = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in value)
    elif kind == "US":
        content = struct.pack("<H", value)
    elif isinstance(value, bytes):
        content = value + b"\0" * (len(value) % 2)
    else:
        text = "\\".join(f"{part:.10g}" if isinstance(part, float) else str(part) for part in np.atleast_1d(value))
        content = text.encode() + (b"\0" if kind == "UI" else b" ") * (len(text.encode()) % 2)
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + kind.encode()
    if kind in _LONG_FORMS:
        return head + struct.pack("<HI", 0, len(content)) + content
    return head + struct.pack("<H", len(content)) + content


def dataset(elements: Mapping[int, tuple[str, Any]]) -> bytes:
    return b"".join(element(tag, *elements[tag]) for tag in sorted(elements) if elements[tag][1] is not None)


def write_dicom(
    path: Path,
    elements: Mapping[int, tuple[str, Any]],
    sop_class: str = MR,
    syntax: str = "1.2.840.10008.1.2.1",
    tail: bytes = b"",
) -> Path:
    """Write a file from its elements ``{tag: (VR, value)}``; those whose value is None are left out."""
    uid = elements.get(0x00080018, ("UI", SERIES + ".0"))[1]
    meta = {0x00020001: ("OB", b"\0\1"), 0x00020002: ("UI", sop_class), 0x00020003: ("UI", uid)}
    meta |= {0x00020010: ("UI", syntax), 0x00020012: ("UI", SERIES)}
    head = dataset(meta)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = dataset({0x00080016: ("UI", sop_class), 0x00080018: ("UI", uid)} | dict(elements))
    path.write_bytes(
        b"\0" * 128 + b"DICM" + element(0x00020000, "UL", struct.pack("<I", len(head))) + head + content + tail
    )
    return path


def _common(array: np.ndarray, series: str, **extra: tuple[str, Any]) -> dict[int, tuple[str, Any]]:
    return {
        0x00080060: ("CS", "MR"),
        0x0008103E: ("LO", "t2 sag"),
        0x00100020: ("LO", "phantom"),
        0x0020000D: ("UI", SERIES + ".1"),
        0x0020000E: ("UI", series),
        0x00200011: ("IS", 3),
        0x00200052: ("UI", SERIES + ".2"),
        0x00280002: ("US", 1),
        0x00280004: ("CS", "MONOCHROME2"),
        0x00280010: ("US", array.shape[-2]),
        0x00280011: ("US", array.shape[-1]),
        0x00280100: ("US", 16),
        0x00280101: ("US", 16),
        0x00280102: ("US", 15),
        0x00280103: ("US", 1),
        0x7FE00010: ("OW", array.astype("<i2").tobytes()),
    }


def slice_elements(
    voxels: np.ndarray, affine_lps: np.ndarray, k: int, series: str = SERIES + ".10", number: int | None = None
) -> dict[int, tuple[str, Any]]:
    """Describe slice ``k`` of (X, Y, Z) voxels whose array axes are column, row and slice."""
    axes, spacing = _axes(affine_lps)
    return _common(voxels[:, :, k].T, series) | {
        0x00080018: ("UI", f"{series}.{k + 1}"),
        0x00200013: ("IS", k + 1 if number is None else number),
        0x00200032: ("DS", _floats(affine_lps @ (0, 0, k, 1))[:3]),
        0x00200037: ("DS", _floats([*axes[:, 0], *axes[:, 1]])),
        0x00280030: ("DS", _floats([spacing[1], spacing[0]])),
    }


def write_slices(
    folder: Path,
    voxels: np.ndarray,
    affine_lps: np.ndarray,
    names: Sequence[str] | None = None,
    changes: Mapping[int, Mapping[int, tuple[str, Any]]] | None = None,
    series: str = SERIES + ".10",
    skip: Sequence[int] = (),
) -> Path:
    """Write a classic series, a file for each slice; ``changes[k]`` replaces elements of slice k."""
    for k in range(voxels.shape[2]):
        if k not in skip:
            elements = slice_elements(voxels, affine_lps, k, series) | dict((changes or {}).get(k, {}))
            write_dicom(folder / (names[k] if names else f"IM{k:04d}.dcm"), elements)
    return folder


def write_enhanced(
    path: Path,
    voxels: np.ndarray,
    affine_lps: np.ndarray,
    order: Sequence[int] | None = None,
    rescale: Sequence[tuple[float, float]] | None = None,
    changes: Mapping[int, tuple[str, Any]] | None = None,
    per_frame_all: bool = False,
) -> Path:
    """Write an enhanced MR file whose frames are the slices ``order``; ``rescale``: (slope, intercept) of each."""
    order = list(range(voxels.shape[2])) if order is None else list(order)
    axes, spacing = _axes(affine_lps)
    orientation = dataset({0x00200037: ("DS", _floats([*axes[:, 0], *axes[:, 1]]))})
    measures = dataset({0x00180050: ("DS", float(spacing[2])), 0x00280030: ("DS", _floats([spacing[1], spacing[0]]))})
    shared = {0x00209116: ("SQ", [orientation]), 0x00289110: ("SQ", [measures])}
    frames = []
    for number, k in enumerate(order):
        position = dataset({0x00200032: ("DS", _floats(affine_lps @ (0, 0, k, 1))[:3])})
        groups: dict[int, tuple[str, Any]] = {0x00209113: ("SQ", [position])}
        if per_frame_all:
            groups |= shared
        if rescale:
            slope, intercept = rescale[number]
            pair = {0x00281052: ("DS", float(intercept)), 0x00281053: ("DS", float(slope))}
            groups[0x00289145] = ("SQ", [dataset(pair | {0x00281054: ("LO", "US")})])
        frames.append(dataset(groups))
    elements = _common(voxels[:, :, order].T, SERIES + ".20") | {
        0x00080018: ("UI", SERIES + ".20.1"),
        0x00280008: ("IS", len(order)),
        0x52009229: ("SQ", [b"" if per_frame_all else dataset(shared)]),
        0x52009230: ("SQ", frames),
    }
    return write_dicom(path, elements | dict(changes or {}), ENHANCED_MR)


def write_report(path: Path, series: str = SERIES + ".30") -> Path:
    """Write a DICOM object without an image (a structured report)."""
    elements = _common(np.zeros((1, 1)), series)
    elements = {tag: value for tag, value in elements.items() if tag >> 16 not in (0x0028, 0x7FE0)}
    return write_dicom(path, elements | {0x00080060: ("CS", "SR")}, SR)


def _axes(affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    return affine[:3, :3] / spacing, spacing


def _floats(values: Sequence[float]) -> list[float]:
    return [float(value) for value in values]

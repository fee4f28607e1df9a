"""Whether a scan can be segmented."""

from __future__ import annotations

import os

from common.data.scan_reader import read_scan
from common.data.volume_checks import check_picture

__all__ = ["check_scan"]


def check_scan(path: str | os.PathLike) -> None:
    """Read a scan as the loader will, and make sure that it can be segmented.

    Args:
        path: a path form of :class:`common.data.scan_reader.ScanReader`.

    Raises:
        InputError: see :func:`common.data.scan_reader.read_scan` and :func:`common.data.volume_checks.check_picture`.
    """
    voxels, _ = read_scan(path)
    check_picture(path, voxels)

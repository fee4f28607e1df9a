"""A bundle as a zip file."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path

from tools.bundle_files import Contents

__all__ = ["write_archive"]

_TIME = (1980, 1, 1, 0, 0, 0)  # the first that a zip file knows
_MODE = stat.S_IFREG | 0o644
_UNIX = 3


def write_archive(contents: Contents, name: str, path: Path) -> None:
    """Write a bundle's files into a zip file, below a folder of the bundle's name.

    Nothing of the machine, the user or the time gets into it: order, times and permissions are fixed. The files are
    stored as they are, since what compression makes of them depends on the library's version; weights would hardly
    become smaller.

    Args:
        contents: the files.
        name: of the bundle.
        path: of the zip file.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file, source in contents.files.items():
            member = zipfile.ZipInfo(f"{name}/{file}", _TIME)
            member.create_system, member.external_attr = _UNIX, _MODE << 16
            member.file_size = source.stat().st_size  # so that a file of more than 4 GB gets the fields that it needs
            with open(source, "rb") as data, archive.open(member, "w") as target:
                shutil.copyfileobj(data, target, 1 << 20)

"""The scans to be segmented: one file, or a folder of them."""

from __future__ import annotations

import logging
import os
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from common.data.cases import IMAGE_SUFFIXES, case_id, scan_files
from common.errors import InputError

__all__ = ["ScanList", "check_scan"]

logger = logging.getLogger(__name__)


def check_scan(path: str | os.PathLike) -> None:
    """Read a scan and make sure that it can be segmented.

    Args:
        path: a NIfTI file.

    Raises:
        InputError: missing, not NIfTI, truncated, not one 3D volume, fewer than 2 voxels along an axis, colours or
            complex numbers, no valid affine, a value that is not finite, or the same value everywhere.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(path, "does not exist", "pass --input with a NIfTI file or a folder of them")
    if not path.name.lower().endswith(IMAGE_SUFFIXES):
        raise InputError(path, "is not a NIfTI file (.nii.gz, .nii)", "convert it first")
    try:
        image = nib.load(path)
        shape = image.shape
        if len(shape) != 3 or min(shape) < 2:
            size = " x ".join(map(str, shape))
            raise InputError(path, f"is not one 3D volume (its size is {size})", "pass a single volume")
        voxels, affine = np.asanyarray(image.dataobj), image.affine
    except PermissionError as error:
        raise InputError(path, "cannot be read (no permission)", "grant read access") from error
    except (
        nib.filebasedimages.ImageFileError,
        OSError,
        EOFError,
        OverflowError,
        ValueError,
        zlib.error,
        nib.spatialimages.HeaderDataError,
    ) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(path, f"cannot be read as NIfTI ({error})", "check or re-export the file") from error
    if voxels.dtype.kind not in "biuf":
        raise InputError(
            path, f"holds no plain numbers (its type is {image.get_data_dtype()})", "pass a grey-level scan"
        )
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise InputError(path, "has no valid position in space (its affine cannot be inverted)", "re-export the scan")
    if not np.isfinite(voxels).all():
        raise InputError(path, "has voxels that are NaN or infinite", "re-export the scan")
    if voxels.min() == voxels.max():
        raise InputError(path, "has the same value in every voxel", "pass a scan with a picture in it")


class ScanList:
    """What an inference run works on.

    A file that cannot be used is refused at once where it is the only one; in a folder it becomes a record, the others
    are done, and :meth:`finish` reports the failures.

    Args:
        source: a NIfTI file, a folder of them, or a data set's folder with ``images/``. None is refused.

    Attributes:
        items: ``{"image": path, "id": name}`` for each scan that can be read.
        failures: ``{"file": path, "problem": message}`` for each that cannot.

    Raises:
        InputError: nothing is given, it does not exist, or there is no readable scan in it.
    """

    def __init__(self, source: str | os.PathLike | None) -> None:
        if source in (None, "", "None"):
            raise InputError("input", "no scan is given", "pass --input with a NIfTI file or a folder of them")
        self.source = Path(str(source))
        self.items: list[dict[str, Any]] = []
        self.failures: list[dict[str, str]] = []
        if not self.source.exists():
            raise InputError(self.source, "does not exist", "pass --input with a NIfTI file or a folder of them")
        files = [self.source] if self.source.is_file() else self._files_of(self.source)
        taken: dict[str, Path] = {}
        for path in files:
            name = case_id(path)
            try:
                check_scan(path)
                if name in taken:
                    raise InputError(path, f"has the same name as {taken[name]}", "rename one of them")
            except InputError as error:
                if len(files) == 1:
                    raise
                logger.error("%s", error)
                self.failures.append({"file": str(path), "problem": str(error)})
                continue
            taken[name] = path
            self.items.append({"image": str(path), "id": name})
        if not self.items:
            raise InputError(
                self.source, f"none of its {len(files)} scans can be used (first: {self.failures[0]['problem']})",
                "pass NIfTI volumes",
            )  # fmt: skip

    @staticmethod
    def _files_of(folder: Path) -> list[Path]:
        try:
            files = scan_files(folder)
            if not files and (folder / "images").is_dir():
                files = scan_files(folder / "images")
        except PermissionError as error:
            raise InputError(folder, "cannot be read (no permission)", "grant read access") from error
        if not files:
            raise InputError(
                folder, "holds no NIfTI file (.nii.gz, .nii)", "put the scans there or pass another --input"
            )
        return files

    def finish(self) -> None:
        """Report the failures once the rest is done.

        Raises:
            InputError: some scans could not be used.
        """
        if self.failures:
            total = len(self.failures) + len(self.items)
            first = self.failures[0]["problem"]
            raise InputError(
                self.source, f"{len(self.failures)} of {total} scans were left out (first: {first})", "the rest is done"
            )

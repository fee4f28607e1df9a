"""The scans to be segmented: one file or DICOM series, or a folder of them."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from common.data.cases import scan_files
from common.data.dicom_seg import SEG_FORMAT, check_seg_source
from common.data.dicom_series import list_series, split_path
from common.data.label_writer import scan_name
from common.data.scan_checks import check_scan
from common.data.scan_reader import FORMATS, scan_format
from common.errors import InputError

__all__ = ["ScanList"]

logger = logging.getLogger(__name__)

_HINT = "pass --input with a scan or a folder of scans"


class ScanList:
    """What an inference run works on.

    A scan that cannot be used is refused at once where it is the only one; in a folder it becomes a record, the others
    are done, and :meth:`finish` reports the failures.

    Args:
        source: a file (NIfTI, .mha, .nrrd, DICOM); one DICOM series (``FOLDER#SERIESUID``); a folder of files; a folder
            that holds DICOM series, at any depth; or a data set's folder with ``images/``. None is refused.
        output_format: what the results are written as; for ``dicom-seg`` a scan has to be in DICOM.

    Attributes:
        items: ``{"image": path, "id": name}`` for each scan that can be read; the path is one that
            :class:`common.data.ScanReader` takes.
        failures: ``{"file": path, "problem": message}`` for each that cannot.

    Raises:
        InputError: nothing is given, it does not exist, or there is no readable scan in it.
    """

    def __init__(self, source: str | os.PathLike | None, output_format: str | None = None) -> None:
        if source in (None, "", "None"):
            raise InputError("input", "no scan is given", _HINT)
        self.source = _as_given(str(source))
        self.items: list[dict[str, Any]] = []
        self.failures: list[dict[str, str]] = []
        place, series = split_path(self.source)
        if not place.exists():
            raise InputError(self.source, "does not exist", _HINT)
        one = series is not None or place.is_file()
        paths = [self.source] if one else self._scans_in(place)
        taken: dict[str, str] = {}
        for path in paths:
            try:
                if output_format == SEG_FORMAT:
                    check_seg_source(path)
                check_scan(path)
                # Series may lie at any depth, where one name may occur twice: the folders between are part of it.
                name = scan_name(path, root=place if not one and scan_format(path) == "dicom" else None)
                if name in taken:
                    raise InputError(path, f"has the same name as {taken[name]}", "rename one of them")
            except InputError as error:
                if len(paths) == 1:
                    raise
                logger.error("%s", error)
                self.failures.append({"file": path, "problem": str(error)})
                continue
            taken[name] = path
            self.items.append({"image": path, "id": name})
        if not self.items:
            problem = f"none of its {len(paths)} scans can be used (first: {self.failures[0]['problem']})"
            raise InputError(self.source, problem, f"pass {FORMATS}")

    @staticmethod
    def _scans_in(folder: Path) -> list[str]:
        try:
            files = scan_files(folder)
            if not files and (folder / "images").is_dir():
                files = scan_files(folder / "images")
        except PermissionError as error:
            raise InputError(folder, "cannot be read (no permission)", "grant read access") from error
        paths = [str(path) for path in files] + [series.source for series in list_series(folder)]
        if not paths:
            raise InputError(folder, f"holds no scan ({FORMATS})", "put the scans there or pass another --input")
        return paths

    def leave_out(self, names: Collection[str]) -> None:
        """Take the scans of these names off the list; a data set that was made from it sees that too."""
        self.items[:] = [item for item in self.items if item["id"] not in names]

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


def _as_given(source: str) -> str:
    """Undo what MONAI does to each word of a configuration: it puts ``::`` in the place of ``#``."""
    given = source.replace("::", "#")
    return given if not os.path.exists(source) and split_path(given)[0].exists() else source

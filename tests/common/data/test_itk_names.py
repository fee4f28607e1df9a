from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from common.data.itk_names import itk_name
from common.data.label_writer import write_label_map
from common.data.scan_checks import check_scan
from common.errors import InputError
from tests.scan_files import write_scan


class TestItkName:
    def test_names(self):
        assert itk_name(Path("Böse Straße/é.mha")) == "Böse Straße/é.mha"

    @pytest.mark.parametrize("kind", ["mha", "nrrd", "dicom"])
    def test_a_name_that_is_not_utf_8(self, tmp_path, kind):
        write_scan(tmp_path / "good", kind)
        folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xe9"))
        try:
            (tmp_path / "good").rename(folder)
        except OSError:
            pytest.skip("this file system has no such names")
        path = folder / ("series" if kind == "dicom" else f"scan.{kind}")
        with pytest.raises(InputError, match=r"/b\\udce9/.*: has characters in its name that are not UTF-8; rename it"):
            check_scan(path)
        source = write_scan(tmp_path, "nii")
        with pytest.raises(InputError, match="has characters in its name that are not UTF-8; rename it"):
            write_label_map(np.zeros((12, 10, 8)), source, folder / "a.mha")

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from common.data.meta_image import check_meta_image
from common.data.scan_reader import read_scan
from common.errors import InputError
from tests.scan_files import picture, write_itk


class TestCheckMetaImage:
    @pytest.mark.parametrize("name", ["a.mha", "a.mhd"])
    @pytest.mark.parametrize("compress", [False, True])
    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64, np.float32, np.float64])
    def test_what_itk_writes_passes(self, tmp_path, name, compress, dtype):
        check_meta_image(write_itk(tmp_path / name, picture().astype(dtype), np.eye(4), compress))

    def test_fields_of_dicom_pass(self, tmp_path):
        image = sitk.GetImageFromArray(picture())
        image.SetMetaData("0008|0060", "MR")
        sitk.WriteImage(image, str(tmp_path / "a.mha"))
        check_meta_image(tmp_path / "a.mha")

    def test_numbers_as_text_and_a_file_for_each_slice(self, tmp_path):
        head = "ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\n"
        (tmp_path / "a.mha").write_text(head + "BinaryData = False\nElementDataFile = LOCAL\n1 2 3 4 5 6 7 8\n")
        array, _ = read_scan(tmp_path / "a.mha")
        assert array[1, 0, 0] == 2 and array[0, 0, 1] == 5
        for k in range(2):
            (tmp_path / f"{k}.raw").write_bytes(bytes(range(4 * k, 4 * k + 4)))
        (tmp_path / "b.mhd").write_text(head + "ElementDataFile = LIST\n0.raw\n1.raw\n")
        array, _ = read_scan(tmp_path / "b.mhd")
        assert array[1, 1, 1] == 7

    def test_more_than_there_is(self, tmp_path):
        path = write_itk(tmp_path / "a.mha", picture(), np.eye(4), compress=True)
        path.write_bytes(path.read_bytes().replace(b"DimSize = 12 10 8", b"DimSize = 12 10 9"))
        with pytest.raises(InputError) as error:
            check_meta_image(path)
        assert str(error.value) == (
            f"{path}: cannot be read as MetaImage (a.mha holds 1920 of 2160 bytes of voxels); "
            "check or re-export the file"
        )

from __future__ import annotations

import zlib

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from common.data.meta_image import check_meta_image
from common.data.scan_reader import read_scan
from common.errors import InputError
from tests.scan_files import picture, write_itk

HEAD = "ObjectType = Image\nNDims = 3\nDimSize = 3 3 3\nElementType = MET_UCHAR\n"
VOXELS = bytes(range(27))
TEXT = " ".join(map(str, VOXELS)).encode()
PACKED = zlib.compress(VOXELS)
PACKED_HEAD = f"{HEAD}CompressedData = True\nCompressedDataSize = {len(PACKED)}\n"
LOCAL = "ElementDataFile = LOCAL\n"


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

    @pytest.mark.parametrize(
        ("head", "content", "files"),
        [
            (HEAD + LOCAL, VOXELS, {}),
            ((HEAD + LOCAL).replace("\n", "\r\n"), VOXELS, {}),
            (HEAD.replace("N", "\n  N", 1) + LOCAL, VOXELS, {}),
            (HEAD + "Comment =\n" + LOCAL, VOXELS, {}),
            (HEAD + "BinaryData = False\n" + LOCAL, TEXT + b"\n", {}),
            (HEAD + "BinaryData = False\n" + LOCAL, TEXT.replace(b" ", b",") + b"\n", {}),
            (HEAD + "HeaderSize = 5\nElementDataFile = a.raw\n", b"", {"a.raw": b"12345" + VOXELS}),
            (HEAD + "HeaderSize = -1\n" + LOCAL, b"12345" + VOXELS, {}),
            (PACKED_HEAD + LOCAL, PACKED, {}),
            (HEAD + "CompressedData = True\nElementDataFile = a.zraw\n", b"", {"a.zraw": PACKED}),
            (HEAD + "ElementDataFile = LIST\n0\n1\n2\n", b"", {str(k): VOXELS[9 * k : 9 * k + 9] for k in range(3)}),
            (HEAD + "ElementDataFile = %02d.r 5 9 2\n", b"", {f"0{5 + 2 * k}.r": VOXELS[9 * k :] for k in range(3)}),
        ],
    )
    def test_other_ways_to_store_voxels(self, tmp_path, head, content, files):
        (tmp_path / "a.mha").write_bytes(head.encode() + content)
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
        array, _ = read_scan(tmp_path / "a.mha")
        assert array.T.tobytes() == VOXELS

    def test_more_than_there_is(self, tmp_path):
        path = write_itk(tmp_path / "a.mha", picture(), np.eye(4), compress=True)
        path.write_bytes(path.read_bytes().replace(b"DimSize = 12 10 8", b"DimSize = 12 10 9"))
        with pytest.raises(InputError) as error:
            check_meta_image(path)
        assert str(error.value) == (
            f"{path}: cannot be read as MetaImage (a.mha holds 1920 of 2160 bytes of voxels); "
            "check or re-export the file"
        )

    @pytest.mark.parametrize(
        ("head", "content", "problem"),
        [
            (HEAD.replace("NDims", "Dims") + LOCAL, VOXELS, "its NDims is missing or wrong"),
            (HEAD.replace("NDims = 3\n", "") + "NDims = 3\n" + LOCAL, VOXELS, "its DimSize stands before NDims"),
            (HEAD.replace("DimSize", "Size") + LOCAL, VOXELS, "its DimSize is missing or not positive"),
            (HEAD.replace("3 3 3", "3 3 3.5") + LOCAL, VOXELS, "its DimSize is not whole"),
            (HEAD + "DimSize = 3 3 2\n" + LOCAL, VOXELS, "its header has two lines DimSize"),
            (HEAD.replace("ElementType", "Type") + LOCAL, VOXELS, "its ElementType is missing"),
            (HEAD + "Offset = 1 2\n" + LOCAL, VOXELS, "its Offset is not 3 numbers"),
            (HEAD + "ID = x\n" + LOCAL, VOXELS, "its ID is not a number"),
            (HEAD + "BinaryData = -\n" + LOCAL, VOXELS, "its BinaryData is neither True nor False"),
            (HEAD + "some words\n" + LOCAL, VOXELS, "its header is malformed or cut off"),
            (HEAD + f"Comment = {'a' * 500}\n" + LOCAL, VOXELS, "its header is malformed or cut off"),
            (HEAD + LOCAL.replace("L\n", "L\0\n"), VOXELS, "its header is malformed or cut off"),
            (HEAD + LOCAL, VOXELS[:-1], "a.mha holds 26 of 27 bytes of voxels"),
            (HEAD + "HeaderSize = 5\n" + LOCAL, VOXELS, "its HeaderSize is shorter than the header"),
            (HEAD + "BinaryData = False\n" + LOCAL, TEXT, "a.mha does not hold 27 numbers and an end of line"),
            (HEAD + "BinaryData = False\n" + LOCAL, b"nan " * 27, "a.mha does not hold 27 numbers and an end of line"),
            (HEAD + "CompressedData = True\n" + LOCAL, PACKED, "its CompressedDataSize is missing"),
            (PACKED_HEAD + LOCAL, PACKED[:-1], "a.mha holds 27 of 27 bytes of voxels"),
            (PACKED_HEAD + "BinaryData = False\n" + LOCAL, PACKED, "its header contradicts itself"),
            (HEAD + "ElementDataFile = no.raw\n", b"", "its data file no.raw does not exist"),
            (HEAD + "ElementDataFile = LIST\na.mha\n", b"", "its list of files is not one of 3 slices"),
            (HEAD + "ElementDataFile = LIST 3\na\nb\nc\n", b"", "its list of files is not one of 3 slices"),
            (
                HEAD + "ElementDataFile = a%d 1 3\n", b"",
                "its pattern a%d 1 3 does not name 3 slices (NAME%03d.raw FIRST LAST STEP)",
            ),
        ],
    )  # fmt: skip
    def test_what_itk_would_print_about_misread_or_crash_at(self, tmp_path, capfd, head, content, problem):
        (tmp_path / "a.mha").write_bytes(head.encode() + content)
        with pytest.raises(InputError) as error:
            read_scan(tmp_path / "a.mha")
        assert f"cannot be read as MetaImage ({problem});" in str(error.value)
        assert capfd.readouterr() == ("", "")

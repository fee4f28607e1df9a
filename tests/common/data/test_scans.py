from __future__ import annotations

import logging

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from common.data import ScanList
from common.data.scan_reader import FORMATS
from common.errors import InputError
from tests.dicom_files import write_slices
from tests.helpers import noise

GOOD = (noise((4, 5, 6)) * 1000).astype(np.int16)


def message(call, *args) -> str:
    with pytest.raises(InputError) as error:
        call(*args)
    assert "\n" not in str(error.value)
    return str(error.value)


def write(path, array=GOOD):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    return path


def spoiled(value: float) -> np.ndarray:
    array = noise((4, 5, 6))
    array[1, 2, 3] = value
    return array


def huge() -> bytes:
    """A file whose header asks for more voxels than there can be."""
    content = bytearray(nib.Nifti1Image(GOOD, np.eye(4)).to_bytes())
    content[42:48] = np.array([32767] * 3, np.int16).tobytes()
    content[108:112] = np.array([1e30], np.float32).tobytes()  # and for its first voxel far behind the end
    return bytes(content)


# What is wrong with a scan, and what the user reads.
BAD = {
    "4D": (np.zeros((4, 5, 6, 2), np.int16), "is not one 3D volume (its size is 4 x 5 x 6 x 2); pass a single volume"),
    "2D": (noise((4, 5)), "is not one 3D volume (its size is 4 x 5); pass a single volume"),
    "one slice": (noise((4, 5, 1)), "is not one 3D volume (its size is 4 x 5 x 1); pass a single volume"),
    "nan": (spoiled(np.nan), "has voxels that are NaN or infinite; re-export the scan"),
    "infinite": (spoiled(-np.inf), "has voxels that are NaN or infinite; re-export the scan"),
    "blank": (np.zeros((4, 5, 6), np.int16), "has the same value in every voxel; pass a scan with a picture in it"),
    "constant": (np.full((4, 5, 6), 7.5), "has the same value in every voxel; pass a scan with a picture in it"),
}


class TestScanList:
    def test_one_file(self, tmp_path):
        path = write(tmp_path / "Case 1.nii.gz")
        scans = ScanList(path)
        assert scans.items == [{"image": str(path), "id": "Case 1"}]
        assert scans.failures == [] and scans.finish() is None

    @pytest.mark.parametrize("below", ["", "images"])
    def test_a_folder(self, tmp_path, below):
        for name in ("b.nii", "a.nii.gz"):
            write(tmp_path / below / name)
        (tmp_path / "readme.txt").write_text("no scan")
        scans = ScanList(str(tmp_path))
        assert [item["id"] for item in scans.items] == ["a", "b"]
        scans.finish()

    def test_scans_right_in_the_folder_go_first(self, tmp_path):
        write(tmp_path / "a.nii")
        write(tmp_path / "images/b.nii")
        assert [item["id"] for item in ScanList(tmp_path).items] == ["a"]

    def test_a_bad_file_among_others(self, tmp_path, caplog):
        array, problem = BAD["nan"]
        for name in ("a.nii", "c.nii.gz"):
            write(tmp_path / name)
        bad = write(tmp_path / "b.nii", array)
        with caplog.at_level(logging.ERROR):
            scans = ScanList(tmp_path)
        assert [item["id"] for item in scans.items] == ["a", "c"]
        assert scans.failures == [{"file": str(bad), "problem": f"{bad}: {problem}"}]
        assert caplog.messages == [f"{bad}: {problem}"]
        assert message(scans.finish) == (
            f"{tmp_path}: 1 of 3 scans were left out (first: {bad}: {problem}); the rest is done"
        )

    def test_two_files_of_one_name(self, tmp_path):
        first, second = write(tmp_path / "a.nii"), write(tmp_path / "a.nii.gz")
        scans = ScanList(tmp_path)
        assert scans.items == [{"image": str(first), "id": "a"}]
        assert [failure["problem"] for failure in scans.failures] == [
            f"{second}: has the same name as {first}; rename one of them"
        ]

    def test_a_name_is_free_where_its_first_file_is_bad(self, tmp_path):
        write(tmp_path / "a.nii", BAD["blank"][0])
        second = write(tmp_path / "a.nii.gz")
        scans = ScanList(tmp_path)
        assert scans.items == [{"image": str(second), "id": "a"}] and len(scans.failures) == 1

    def test_a_single_bad_file_is_refused_at_once(self, tmp_path):
        array, problem = BAD["4D"]
        path = write(tmp_path / "series.nii", array)
        for source in (path, tmp_path):
            assert message(ScanList, source) == f"{path}: {problem}"

    def test_only_bad_files(self, tmp_path):
        array, problem = BAD["constant"]
        for name in ("a.nii", "b.nii"):
            write(tmp_path / name, array)
        assert message(ScanList, tmp_path) == (
            f"{tmp_path}: none of its 2 scans can be used (first: {tmp_path}/a.nii: {problem}); pass {FORMATS}"
        )

    @pytest.mark.parametrize("source", [None, "", "None"])
    def test_nothing_given(self, source):
        assert message(ScanList, source) == ("input: no scan is given; pass --input with a scan or a folder of scans")

    def test_nothing_there(self, tmp_path):
        assert message(ScanList, tmp_path / "no") == (
            f"{tmp_path}/no: does not exist; pass --input with a scan or a folder of scans"
        )
        (tmp_path / "images").mkdir()
        assert message(ScanList, tmp_path) == (
            f"{tmp_path}: holds no scan ({FORMATS}); put the scans there or pass another --input"
        )


def test_scans_of_all_formats(tmp_path):
    """Files right in the folder, and DICOM series at any depth, named by the folders that they lie in."""
    write(tmp_path / "a.nii.gz")
    image = sitk.GetImageFromArray(GOOD)
    sitk.WriteImage(image, str(tmp_path / "b.mha"))
    sitk.WriteImage(image, str(tmp_path / "c.nrrd"))
    for patient in ("p1", "p2"):
        write_slices(tmp_path / patient / "t2", GOOD, np.diag([1.0, 1.0, 4.0, 1.0]))
    scans = ScanList(tmp_path)
    assert scans.failures == []
    assert [item["id"] for item in scans.items] == ["a", "b", "c", "p1_t2", "p2_t2"]
    assert ScanList(tmp_path / "p1" / "t2").items == [{"image": str(tmp_path / "p1" / "t2"), "id": "t2"}]

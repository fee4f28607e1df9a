from __future__ import annotations

import logging

import nibabel as nib
import numpy as np
import pytest

from common.data import ScanList
from common.data.scans import check_scan
from common.errors import InputError
from tests.helpers import noise, write_nifti

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


class TestCheckScan:
    @pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "scan with space.NII.GZ", "1.2.nii"])
    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
    def test_good_scans_pass(self, tmp_path, name, dtype):
        assert check_scan(write(tmp_path / name, GOOD.astype(dtype))) is None
        check_scan(str(tmp_path / name))

    @pytest.mark.parametrize("code", ["LAS", "PIR"])
    def test_any_orientation_passes(self, tmp_path, code):
        check_scan(write_nifti(tmp_path / "scan.nii", GOOD, np.diag([4.0, 1, 1, 1]), code))

    @pytest.mark.parametrize("kind", BAD)
    @pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
    def test_bad_voxels(self, tmp_path, kind, name):
        array, problem = BAD[kind]
        path = write(tmp_path / name, array)
        assert message(check_scan, path) == f"{path}: {problem}"

    def test_missing(self, tmp_path):
        advice = "pass --input with a NIfTI file or a folder of them"
        assert message(check_scan, tmp_path / "no.nii") == f"{tmp_path}/no.nii: does not exist; {advice}"
        assert message(check_scan, tmp_path) == f"{tmp_path}: does not exist; {advice}"

    @pytest.mark.parametrize("name", ["scan.dcm", "scan.mgz", "scan.gz", "scan"])
    def test_another_suffix(self, tmp_path, name):
        (tmp_path / name).write_bytes(b"\0" * 500)
        assert message(check_scan, tmp_path / name) == (
            f"{tmp_path / name}: is not a NIfTI file (.nii.gz, .nii); convert it first"
        )

    @pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
    @pytest.mark.parametrize(
        "content", [b"", b"not a scan", b"\0" * 1000, b"\x1f\x8b\x08\0 broken gzip", huge()], ids=range(5)
    )
    def test_not_nifti(self, tmp_path, name, content):
        path = tmp_path / name
        path.write_bytes(content)
        found = message(check_scan, path)
        assert found.startswith(f"{path}: cannot be read as NIfTI (")
        assert found.endswith("); check or re-export the file")

    @pytest.mark.parametrize("matrix", [np.zeros((3, 3)), np.diag([1, 1, 0]), np.full((3, 3), np.nan), np.ones((3, 3))])
    def test_no_valid_affine(self, tmp_path, matrix):
        image = nib.Nifti1Image(GOOD, np.eye(4))
        image.header["sform_code"], image.header["qform_code"] = 1, 0
        for name, row in zip(("srow_x", "srow_y", "srow_z"), matrix, strict=True):
            image.header[name] = [*row, 5]
        (tmp_path / "scan.nii").write_bytes(nib.Nifti1Image(GOOD, None, image.header).to_bytes())
        assert message(check_scan, tmp_path / "scan.nii") == (
            f"{tmp_path}/scan.nii: has no valid position in space (its affine cannot be inverted); re-export the scan"
        )

    def test_small_voxels_are_no_invalid_affine(self, tmp_path):
        check_scan(write_nifti(tmp_path / "scan.nii", GOOD, np.diag([4e-3, 1e-3, 1e-3, 1])))

    @pytest.mark.parametrize(
        ("dtype", "shown"),
        [
            (np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]), "[('R', 'u1'), ('G', 'u1'), ('B', 'u1')]"),
            (np.dtype(np.complex64), "complex64"),
        ],
    )
    def test_colours_and_complex_numbers(self, tmp_path, dtype, shown):
        path = write(tmp_path / "scan.nii", np.zeros((4, 5, 6), dtype))
        assert message(check_scan, path) == (
            f"{path}: holds no plain numbers (its type is {shown}); pass a grey-level scan"
        )

    @pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
    @pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
    def test_truncated(self, tmp_path, name, share):
        path = write(tmp_path / name, (noise((20, 20, 20)) * 1000).astype(np.int16))
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        found = message(check_scan, path)
        assert found.startswith(f"{path}: cannot be read as NIfTI (")
        assert found.endswith("); check or re-export the file")


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
            f"{tmp_path}: none of its 2 scans can be used (first: {tmp_path}/a.nii: {problem}); pass NIfTI volumes"
        )

    @pytest.mark.parametrize("source", [None, "", "None"])
    def test_nothing_given(self, source):
        assert message(ScanList, source) == (
            "input: no scan is given; pass --input with a NIfTI file or a folder of them"
        )

    def test_nothing_there(self, tmp_path):
        assert message(ScanList, tmp_path / "no") == (
            f"{tmp_path}/no: does not exist; pass --input with a NIfTI file or a folder of them"
        )
        (tmp_path / "images").mkdir()
        assert message(ScanList, tmp_path) == (
            f"{tmp_path}: holds no NIfTI file (.nii.gz, .nii); put the scans there or pass another --input"
        )

from __future__ import annotations

import logging

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from common.data import ScanList
from common.data.scan_reader import FORMATS
from common.errors import InputError
from tests.bad_scans import BAD_SCANS
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


CONSTANT = np.zeros((4, 5, 6), np.int16)
PROBLEM = "has the same value in every voxel; pass a scan with a picture in it"


class TestScanList:
    def test_one_file(self, tmp_path):
        path = write(tmp_path / "Case 1.nii.gz")
        scans = ScanList(path)
        assert scans.items == [{"image": str(path), "id": "Case 1"}]
        assert scans.failures == [] and scans.finish() is None

    def test_only_dicom_can_be_written_as_dicom(self, tmp_path):
        pytest.importorskip("highdicom")
        path = write(tmp_path / "scans" / "a.nii")
        line = f"{path}: is no DICOM, to which a DICOM SEG could refer; choose another --output_format"
        assert message(ScanList, path, "dicom-seg") == line
        write_slices(tmp_path / "scans" / "b", GOOD, np.eye(4))
        scans = ScanList(tmp_path / "scans", "dicom-seg")
        assert [item["id"] for item in scans.items] == ["b"]
        assert scans.failures == [{"file": str(path), "problem": line}]

    def test_scans_are_left_out(self, tmp_path):
        for name in "abc":
            write(tmp_path / f"{name}.nii")
        scans = ScanList(tmp_path)
        items = scans.items
        scans.leave_out({"a", "c", "other"})
        assert items is scans.items and [item["id"] for item in items] == ["b"]

    @pytest.mark.parametrize("below", ["", "images"])
    def test_a_folder(self, tmp_path, below):
        for name in ("b.nii", "a.nii.gz"):
            write(tmp_path / below / name)
        (tmp_path / "readme.txt").write_text("no scan", encoding="utf-8")
        scans = ScanList(str(tmp_path))
        assert [item["id"] for item in scans.items] == ["a", "b"]
        scans.finish()

    def test_scans_right_in_the_folder_go_first(self, tmp_path):
        write(tmp_path / "a.nii")
        write(tmp_path / "images/b.nii")
        assert [item["id"] for item in ScanList(tmp_path).items] == ["a"]

    def test_a_bad_file_among_others(self, tmp_path, caplog):
        for name in ("a.nii", "c.nii.gz"):
            write(tmp_path / name)
        bad = write(tmp_path / "b.nii", CONSTANT)
        with caplog.at_level(logging.ERROR):
            scans = ScanList(tmp_path)
        assert [item["id"] for item in scans.items] == ["a", "c"]
        assert scans.failures == [{"file": str(bad), "problem": f"{bad}: {PROBLEM}"}]
        assert caplog.messages == [f"{bad}: {PROBLEM}"]
        assert message(scans.finish) == (
            f"{tmp_path}: 1 of 3 scans were left out (first: {bad}: {PROBLEM}); the rest is done"
        )

    def test_two_files_of_one_name(self, tmp_path):
        first, second = write(tmp_path / "a.nii"), write(tmp_path / "a.nii.gz")
        scans = ScanList(tmp_path)
        assert scans.items == [{"image": str(first), "id": "a"}]
        assert [failure["problem"] for failure in scans.failures] == [
            f"{second}: has the same name as {first}; rename one of them"
        ]

    def test_a_name_is_free_where_its_first_file_is_bad(self, tmp_path):
        write(tmp_path / "a.nii", CONSTANT)
        second = write(tmp_path / "a.nii.gz")
        scans = ScanList(tmp_path)
        assert scans.items == [{"image": str(second), "id": "a"}] and len(scans.failures) == 1

    def test_a_single_bad_file_is_refused_at_once(self, tmp_path):
        path = write(tmp_path / "grey.nii", CONSTANT)
        for source in (path, tmp_path):
            assert message(ScanList, source) == f"{path}: {PROBLEM}"

    @pytest.mark.parametrize("kind", BAD_SCANS)
    def test_every_kind_of_bad_scan(self, tmp_path, kind):
        path = BAD_SCANS[kind].make(tmp_path)
        found = message(ScanList, path)
        assert found.startswith(f"{path}: ") and BAD_SCANS[kind].problem in found

    def test_only_bad_files(self, tmp_path):
        for name in ("a.nii", "b.nii"):
            write(tmp_path / name, CONSTANT)
        assert message(ScanList, tmp_path) == (
            f"{tmp_path}: none of its 2 scans can be used (first: {tmp_path}/a.nii: {PROBLEM}); pass {FORMATS}"
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


def test_a_path_that_monai_has_changed(tmp_path):
    """A configuration turns each '#' into '::'."""
    folder = write_slices(tmp_path / "a#b", GOOD, np.diag([1.0, 1.0, 4.0, 1.0]))
    uid = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))[0]
    for source in (folder, f"{folder}#{uid}", folder / "IM0000.dcm"):
        expected = ScanList(source).items
        assert expected[0]["image"] == str(source)
        assert ScanList(str(source).replace("#", "::")).items == expected
    (tmp_path / "a::b").mkdir()  # what is there is meant
    write(tmp_path / "a::b" / "scan.nii")
    assert [item["id"] for item in ScanList(tmp_path / "a::b").items] == ["scan"]
    assert message(ScanList, f"{tmp_path}/no::where").startswith(f"{tmp_path}/no::where: does not exist")

from __future__ import annotations

import builtins
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from common.data.scan_checks import check_scan
from common.errors import InputError
from tests.dicom_files import write_report, write_slices
from tests.helpers import noise
from tests.scan_files import FORMATS, picture, write_itk, write_scan

FORMAT_LIST = ".nii.gz, .nii, .mha, .mhd, .nrrd, .nhdr or a folder of DICOM"
FILES = ("nii", "nii.gz", "mha", "nrrd")


def message(call, *args) -> str:
    with pytest.raises(InputError) as error:
        call(*args)
    assert "\n" not in str(error.value)
    return str(error.value)


def write(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    affine = np.eye(4) if affine is None else affine
    if path.name.endswith((".nii", ".nii.gz")):
        nib.save(nib.Nifti1Image(array, affine), path)
    elif array.ndim == 3:
        write_itk(path, array, affine)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(np.ascontiguousarray(array.T), isVector=False), str(path))
    return path


def spoiled(value: float) -> np.ndarray:
    array = noise((4, 5, 6))
    array[1, 2, 3] = value
    return array


CONSTANT = "has the same value in every voxel; pass a scan with a picture in it"
BAD = {
    "4D": (noise((4, 5, 6, 2)), "is not one 3D volume (its size is 4 x 5 x 6 x 2); pass a single volume"),
    "2D": (noise((4, 5)), "is not one 3D volume (its size is 4 x 5); pass a single volume"),
    "one slice": (noise((4, 5, 1)), "has 1 slice (its size is 4 x 5 x 1); pass a volume of 3 slices or more"),
    "two slices": (noise((4, 2, 5)), "has 2 slices (its size is 4 x 2 x 5); pass a volume of 3 slices or more"),
    "nan": (spoiled(np.nan), "has voxels that are NaN or infinite; re-export the scan"),
    "infinite": (spoiled(-np.inf), "has voxels that are NaN or infinite; re-export the scan"),
    "blank": (np.zeros((4, 5, 6), np.int16), CONSTANT),
    "constant": (np.full((4, 5, 6), 7.5), CONSTANT),
}


class TestCheckScan:
    @pytest.mark.parametrize("kind", FORMATS)
    def test_good_scans_pass(self, tmp_path, kind):
        path = write_scan(tmp_path / "Frau Müller é ñ 1", kind)
        assert check_scan(path) is None and check_scan(str(path)) is None

    @pytest.mark.parametrize("kind", BAD)
    @pytest.mark.parametrize("suffix", FILES)
    def test_bad_voxels(self, tmp_path, kind, suffix):
        array, problem = BAD[kind]
        path = write(tmp_path / f"scan.{suffix}", array)
        assert message(check_scan, path) == f"{path}: {problem}"

    def test_a_warp_field(self, tmp_path):
        path = write(tmp_path / "warp.nii.gz", noise((4, 5, 6, 1, 3)))
        assert message(check_scan, path) == (
            f"{path}: is not one 3D volume (its size is 4 x 5 x 6 x 1 x 3); pass a single volume"
        )
        for name in ("warp.mha", "warp.nrrd"):
            field = sitk.GetImageFromArray(noise((6, 5, 4, 3)), isVector=True)
            sitk.WriteImage(field, str(tmp_path / name))
            assert message(check_scan, tmp_path / name) == (
                f"{tmp_path / name}: is not one 3D volume (its size is 4 x 5 x 6 x 3); pass a single volume"
            )

    def test_colours(self, tmp_path):
        colours = np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
        nib.save(nib.Nifti1Image(colours, np.eye(4)), tmp_path / "a.nii")
        assert message(check_scan, tmp_path / "a.nii") == (
            f"{tmp_path}/a.nii: holds no plain numbers (its type is [('R', 'u1'), ('G', 'u1'), ('B', 'u1')]); "
            "pass a grey-level scan"
        )
        nib.save(nib.Nifti1Image(noise((4, 5, 6)).astype(np.complex64), np.eye(4)), tmp_path / "b.nii")
        assert "holds no plain numbers (its type is complex64)" in message(check_scan, tmp_path / "b.nii")

    def test_a_constant_series(self, tmp_path):
        path = write_slices(tmp_path, np.full((4, 4, 3), 7, np.int16), np.eye(4))
        assert message(check_scan, path) == f"{path}: {CONSTANT}"

    @pytest.mark.parametrize("kind", FORMATS)
    @pytest.mark.parametrize("size", [0.001, 2000.0])
    def test_absurd_spacing(self, tmp_path, kind, size):
        path = write_scan(tmp_path, kind, affine=np.diag([1, 1, size, 1]))
        assert message(check_scan, path) == (
            f"{path}: has voxels of 1 x 1 x {size:.3g} mm, which no scan of a spine has; "
            "re-export it with its spacing in mm"
        )

    @pytest.mark.parametrize("matrix", [np.zeros((3, 3)), np.diag([1, 1, 0]), np.full((3, 3), np.nan), np.ones((3, 3))])
    def test_no_valid_affine(self, tmp_path, matrix):
        image = nib.Nifti1Image(noise((4, 5, 6)), np.eye(4))
        image.header["sform_code"], image.header["qform_code"] = 1, 0
        for name, row in zip(("srow_x", "srow_y", "srow_z"), matrix, strict=True):
            image.header[name] = [*row, 5]
        path = tmp_path / "scan.nii"
        path.write_bytes(nib.Nifti1Image(noise((4, 5, 6)), None, image.header).to_bytes())
        assert message(check_scan, path) == (
            f"{path}: has no valid position in space (its affine cannot be inverted); re-export the scan"
        )

    @pytest.mark.parametrize(
        ("old", "new", "problem"),
        [
            ("ElementSpacing = 1 1 1", "ElementSpacing = 1 -1 1", "its ElementSpacing is not positive"),
            ("ElementSpacing = 1 1 1", "ElementSpacing = 1 1", "its ElementSpacing is not 3 numbers"),
            ("Offset = 0 0 0", "Offset = nan 0 0", "its Offset is not 3 numbers"),
            ("DimSize = 12 10 8", "DimSize = 12 10 -8", "its DimSize is missing or not positive"),
            ("DimSize = 12 10 8", "DimSize = 9999 10 8", "a.mha holds 1920 of 1599840 bytes of voxels"),
            ("MET_SHORT", "MET_FOO", "its ElementType FOO is not known"),
            ("ElementDataFile = LOCAL", "", "its header is malformed or cut off"),
        ],
    )
    def test_meta_header(self, tmp_path, old, new, problem, capfd):
        path = write(tmp_path / "a.mha", picture())
        content = path.read_bytes()
        assert old.encode() in content.replace(b"-0", b"0")
        path.write_bytes(content.replace(b"-0", b"0").replace(old.encode(), new.encode()))
        assert (
            message(check_scan, path) == f"{path}: cannot be read as MetaImage ({problem}); check or re-export the file"
        )
        assert capfd.readouterr() == ("", "")

    def test_a_data_file_that_is_missing_or_cut_off(self, tmp_path, capfd):
        path = write_scan(tmp_path, "mhd")
        start = f"{path}: cannot be read as MetaImage ("
        (tmp_path / "scan.raw").write_bytes(b"12345")
        assert (
            message(check_scan, path)
            == f"{start}scan.raw holds 5 of 1920 bytes of voxels); check or re-export the file"
        )
        (tmp_path / "scan.raw").unlink()
        assert (
            message(check_scan, path) == f"{start}its data file scan.raw does not exist); check or re-export the file"
        )
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
    @pytest.mark.parametrize("compress", [False, True])
    @pytest.mark.parametrize("kind", ["mha", "nrrd"])
    def test_truncated(self, tmp_path, kind, compress, share, capfd):
        path = write_itk(tmp_path / f"a.{kind}", picture(), np.eye(4), compress)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        name = {"mha": "MetaImage", "nrrd": "NRRD"}[kind]
        found = message(check_scan, path)
        assert found.startswith(f"{path}: cannot be read as {name} (")
        assert found.endswith("); check or re-export the file")
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("kind", ["nii", "nii.gz"])
    @pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
    def test_truncated_nifti(self, tmp_path, kind, share):
        path = write(tmp_path / f"scan.{kind}", picture())
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        found = message(check_scan, path)
        assert found.startswith(f"{path}: cannot be read as NIfTI (")
        assert found.endswith("); check or re-export the file")

    @pytest.mark.parametrize("kind", FILES)
    def test_more_voxels_than_there_can_be(self, tmp_path, kind):
        path = write(tmp_path / f"a.{kind}", picture())
        if kind.startswith("nii"):
            image = nib.Nifti1Image(picture(), np.eye(4))
            content = bytearray(image.to_bytes())
            content[42:48] = np.array([32767] * 3, np.int16).tobytes()
            with nib.openers.Opener(path, "wb") as file:
                file.write(bytes(content))
        else:
            path.write_bytes(path.read_bytes().replace(b"12 10 8", b"32767 32767 32767"))
        assert "cannot be read as " in message(check_scan, path)

    def test_missing_and_unknown(self, tmp_path):
        advice = "pass --input with a scan or a folder of scans"
        for name in ("no.nii", "no.mha", "no.dcm", "no"):
            assert message(check_scan, tmp_path / name) == f"{tmp_path / name}: does not exist; {advice}"
        (tmp_path / "scan.png").write_bytes(b"\0" * 500)
        assert message(check_scan, tmp_path / "scan.png") == (
            f"{tmp_path}/scan.png: is not a scan ({FORMAT_LIST}); convert it first"
        )

    def test_a_report(self, tmp_path):
        path = write_report(tmp_path / "a.dcm")
        assert message(check_scan, path) == f"{path}: is a DICOM object without a scan; pass the image series"

    @pytest.mark.parametrize("kind", FILES)
    def test_no_permission(self, tmp_path, kind, monkeypatch):
        path = write_scan(tmp_path, kind)

        def denied(*args, **kwargs):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Path, "open", denied)
        monkeypatch.setattr(builtins, "open", denied)
        assert message(check_scan, path) == f"{path}: cannot be read (no permission); grant read access"

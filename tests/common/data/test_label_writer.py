from __future__ import annotations

import shutil
from itertools import product

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from common.data import label_writer
from common.data.label_writer import LABEL_SUFFIXES, default_suffix, scan_name, write_label_map
from common.data.scan_reader import read_scan
from common.errors import InputError
from tests.dicom_files import SERIES, write_enhanced, write_slices
from tests.helpers import CODES, affine_of, stored
from tests.scan_files import FORMATS, centre, open_elsewhere, picture, write_itk, write_scan

OBLIQUE = affine_of((0.7, 0.8, 3.3), (0.2, -0.1, 0.3))
TRUE_CENTRE = centre(picture() > 500, OBLIQUE)
ROOM = ("qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "qoffset_x", "qoffset_y", "qoffset_z")
ROOM += ("quatern_b", "quatern_c", "quatern_d", "pixdim", "xyzt_units", "dim")


def message(call, *args) -> str:
    with pytest.raises(InputError) as error:
        call(*args)
    assert "\n" not in str(error.value)
    return str(error.value)


class TestGeometry:
    @pytest.mark.parametrize("suffix", LABEL_SUFFIXES)
    @pytest.mark.parametrize("kind", FORMATS)
    @pytest.mark.parametrize("code", ["RAS", "PIR", "LSA", "AIL"])
    def test_another_program_finds_the_block(self, tmp_path, kind, suffix, code):
        source = write_scan(tmp_path, kind, affine=OBLIQUE, code=code)
        array, meta = read_scan(source)
        target = tmp_path / f"out/labels{suffix}"
        write_label_map((array > 500) * np.int64(11), source, target)
        found, affine = open_elsewhere(target)
        assert found.shape == array.shape and found.dtype == np.uint8 and set(np.unique(found)) == {0, 11}
        assert np.allclose(centre(found == 11, affine), TRUE_CENTRE, atol=1e-3)
        assert np.allclose(affine, meta["affine"], atol=1e-4)
        if suffix.startswith(".nii"):
            assert np.allclose(nib.load(target).affine, meta["affine"], atol=1e-4)
        assert [path.name for path in target.parent.iterdir()] == [target.name]

    @pytest.mark.parametrize("code", CODES)
    def test_a_map_of_one_format_lies_on_a_scan_of_another(self, tmp_path, code):
        source = write_scan(tmp_path, "mha", affine=OBLIQUE, code=code)
        array, _ = read_scan(source)
        write_label_map(array > 500, source, tmp_path / "a.nii.gz")
        write_label_map(array > 500, tmp_path / "a.nii.gz", tmp_path / "a.nrrd")
        itk = sitk.ReadImage(str(tmp_path / "a.nrrd"))
        own = sitk.ReadImage(str(source))
        assert np.allclose(itk.GetOrigin(), own.GetOrigin(), atol=1e-4)
        assert np.allclose(itk.GetDirection(), own.GetDirection(), atol=1e-5) and itk.GetSize() == own.GetSize()

    @pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
    def test_itk_formats_keep_their_geometry_to_the_digit(self, tmp_path, name):
        source = write_itk(tmp_path / name, picture(), OBLIQUE)
        write_label_map(picture() > 500, source, tmp_path / f"seg_{name}")
        own, its = sitk.ReadImage(str(source)), sitk.ReadImage(str(tmp_path / f"seg_{name}"))
        for field in ("GetOrigin", "GetSpacing", "GetDirection"):
            assert np.allclose(getattr(own, field)(), getattr(its, field)(), rtol=0, atol=1e-12)

    def test_from_dicom_both_matrices_are_set(self, tmp_path):
        source = write_scan(tmp_path, "dicom", affine=OBLIQUE)
        write_label_map(np.zeros((12, 10, 8)), source, tmp_path / "a.nii")
        image = nib.load(tmp_path / "a.nii")
        assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
        assert np.allclose(image.get_sform(), image.get_qform(), atol=1e-5)
        assert image.header.get_xyzt_units() == ("mm", "unknown")

    @pytest.mark.parametrize("count", [3, 200])
    def test_few_and_many_slices(self, tmp_path, count):
        array = np.random.default_rng(0).integers(0, 20, (5, 4, count))
        source = write_slices(tmp_path / "series", array.astype(np.int16), np.diag([1.0, 1, 2, 1]))
        write_label_map(array, source, tmp_path / "a.nii.gz")
        assert np.array_equal(nib.load(tmp_path / "a.nii.gz").dataobj, array)


class TestNifti:
    @pytest.mark.parametrize(("qform", "sform"), list(product([0, 1, 2], [0, 1, 4])))
    @pytest.mark.parametrize("code", ["RAS", "LSP", "PIR"])
    @pytest.mark.parametrize("big_endian", [False, True])
    def test_both_matrices_and_codes_stay(self, tmp_path, qform, sform, code, big_endian):
        voxels, affine = stored(picture(), OBLIQUE, code)
        header = nib.Nifti1Header(endianness=">" if big_endian else "<")
        image = nib.Nifti1Image(voxels, affine, header)
        other = affine.copy()
        other[:3, 3] += 7
        image.set_sform(affine, sform)
        image.set_qform(other, qform)  # the two differ
        image.header["descrip"] = b"kept"
        image.header["cal_max"] = 900
        image.header.set_slope_inter(2, 5)
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"a name"))
        nib.save(image, tmp_path / "a.nii")
        own = nib.load(tmp_path / "a.nii").header
        write_label_map(voxels > 500, tmp_path / "a.nii", tmp_path / "b.nii.gz")
        its = nib.load(tmp_path / "b.nii.gz")
        for name in ROOM:
            assert np.array_equal(own[name], its.header[name]), name
        assert its.header["descrip"] == b"kept" and its.header["cal_max"] == 0
        assert its.get_data_dtype() == np.uint8 and not its.header.extensions
        assert np.array_equal(its.dataobj, voxels > 500)

    def test_a_quaternion_that_is_none(self, tmp_path):
        image = nib.Nifti1Image(picture(), OBLIQUE)
        image.set_qform(OBLIQUE, 1)
        content = bytearray(image.to_bytes())
        content[256:260] = np.array([5], np.float32).tobytes()  # quatern_b > 1
        (tmp_path / "a.nii").write_bytes(content)
        write_label_map(picture() > 500, tmp_path / "a.nii", tmp_path / "b.nii")
        header = nib.load(tmp_path / "b.nii").header
        assert header["quatern_b"] == 5 and np.allclose(header.get_sform(), OBLIQUE)

    def test_nifti_2(self, tmp_path):
        nib.save(nib.Nifti2Image(picture(), OBLIQUE), tmp_path / "a.nii")
        write_label_map(picture() > 500, tmp_path / "a.nii", tmp_path / "b.nii")
        assert isinstance(nib.load(tmp_path / "b.nii"), nib.Nifti2Image)


class TestRefusals:
    def test_another_grid(self, tmp_path):
        for kind in FORMATS:
            source = write_scan(tmp_path / kind, kind)
            assert message(write_label_map, np.zeros((12, 10, 7)), source, tmp_path / "a.nii") == (
                f"{source}: the segmentation (12 x 10 x 7) does not lie on its grid (12 x 10 x 8); report this as a bug"
            )
        assert not (tmp_path / "a.nii").exists()

    def test_no_format(self, tmp_path):
        for name in ("a.png", "a", "a.nhdr"):
            assert message(write_label_map, np.zeros((1, 1, 1)), tmp_path / "b.nii", tmp_path / name) == (
                f"{tmp_path / name}: is no format for label maps; choose one of .nii.gz, .nii, .mha, .nrrd"
            )

    @pytest.mark.parametrize("value", [0.5, -1, 256, np.nan])
    @pytest.mark.filterwarnings("ignore:invalid value")
    def test_what_is_no_label(self, tmp_path, value):
        source = write_scan(tmp_path, "nii")
        with pytest.raises(ValueError, match=r"labels are whole numbers in 0\.\.255"):
            write_label_map(np.full((12, 10, 8), value), source, tmp_path / "a.nii")

    @pytest.mark.parametrize("suffix", LABEL_SUFFIXES)
    def test_a_folder_that_cannot_be(self, tmp_path, suffix):
        source = write_scan(tmp_path, "nii")
        (tmp_path / "file").write_text("", encoding="utf-8")
        target = tmp_path / f"file/a{suffix}"
        assert message(write_label_map, np.zeros((12, 10, 8)), source, target).startswith(
            f"{target}: cannot be written ("
        )

    @pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
    def test_a_file_that_is_not_complete(self, tmp_path, suffix, monkeypatch):
        source = write_scan(tmp_path / "in", "mha")
        target = tmp_path / f"out/a{suffix}"
        monkeypatch.setattr(label_writer.sitk, "ReadImage", lambda name: sitk.Image(12, 10, 8, sitk.sitkUInt8))
        assert message(write_label_map, np.ones((12, 10, 8)), source, target) == (
            f"{target}: cannot be written (the file is not complete); free space or choose another output_dir"
        )
        assert list(target.parent.iterdir()) == []


class TestNames:
    def test_suffix(self, tmp_path):
        suffixes = {kind: default_suffix(write_scan(tmp_path / kind, kind)) for kind in FORMATS}
        assert suffixes == {
            "nii": ".nii.gz", "nii.gz": ".nii.gz", "mha": ".mha", "mhd": ".mha", "nrrd": ".nrrd", "nhdr": ".nrrd",
            "dicom": ".nii.gz", "enhanced": ".nii.gz",
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("name", "stem"),
        [("a.nii.gz", "a"), ("a.b.NII", "a.b"), ("a 1.mha", "a 1"), ("é.x.nrrd", "é.x"), ("a.nhdr", "a")],
    )
    def test_files(self, tmp_path, name, stem):
        assert scan_name(tmp_path / name) == stem == scan_name(tmp_path / name, tmp_path)
        assert scan_name(tmp_path / "s1/t" / name, tmp_path) == f"s1_t_{stem}"

    def test_dicom(self, tmp_path, monkeypatch):
        folder = write_slices(tmp_path / "patient/1.2 b", picture(), np.eye(4))
        assert scan_name(folder) == "1.2 b" == scan_name(folder / "IM0001.dcm")
        assert scan_name(folder, tmp_path) == "patient_1.2 b" and scan_name(folder, folder) == "1.2 b"
        changes = {k: {0x00200011: ("IS", 4)} for k in range(8)}
        write_slices(folder, picture(), np.eye(4), [f"b{k}" for k in range(8)], changes, SERIES)
        assert scan_name(f"{folder}#{SERIES}") == "1.2 b_4_t2_sag" == scan_name(folder / "b1")
        assert scan_name(f"{folder}#{SERIES}", tmp_path) == "patient_1.2 b_4_t2_sag"
        monkeypatch.chdir(folder)
        assert scan_name(f".#{SERIES}.10") == "1.2 b_3_t2_sag"

    def test_an_enhanced_file(self, tmp_path):
        assert scan_name(write_enhanced(tmp_path / "x.dcm", picture(), np.eye(4))) == "x"
        assert scan_name(tmp_path) == tmp_path.name
        shutil.copy(tmp_path / "x.dcm", tmp_path / "IM1.2")
        assert scan_name(tmp_path / "IM1.2") == "IM1.2"

from __future__ import annotations

import shutil

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from common.data import dicom_series
from common.data.dicom_series import find_stack, list_series, series_label, split_path
from common.errors import InputError
from tests.dicom_files import MR, SERIES, slice_elements, write_dicom, write_enhanced, write_report, write_slices

VOXELS = (np.random.default_rng(0).random((6, 5, 8)) * 1000).astype(np.int16)
# Sagittal: columns run to posterior, rows to the feet, slices to the right (the normal of the two).
SAGITTAL = np.array([[0, 0, -4.0, 30], [0.5, 0, 0, -20], [0, -0.7, 0, 5], [0, 0, 0, 1]])
TILT = np.array([[1, 0, 0, 0], [0, np.cos(0.3), -np.sin(0.3), 0], [0, np.sin(0.3), np.cos(0.3), 0], [0, 0, 0, 1]])
OTHER = SERIES + ".11"


def message(call, *args) -> str:
    with pytest.raises(InputError) as error:
        call(*args)
    assert "\n" not in str(error.value)
    return str(error.value)


def write_with_itk(folder, voxels, affine):
    """Write a series as SimpleITK's examples do."""
    folder.mkdir()
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels.T))
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    axes = (affine[:3, :3] / spacing).T
    for k in range(voxels.shape[2]):
        plane = image[:, :, k]
        tags = {"0008|0060": "MR", "0008|103e": "t2", "0020|000d": "1.2.3", "0020|000e": "1.2.3.4", "0020|0011": "5"}
        tags |= {"0008|0018": f"1.2.3.4.{k + 1}", "0020|0013": str(k + 1), "0020|0052": "1.2.3.9"}
        tags["0020|0037"] = "\\".join(f"{v:.9f}" for v in (*axes[0], *axes[1]))
        tags["0020|0032"] = "\\".join(f"{v:.9f}" for v in image.TransformIndexToPhysicalPoint((0, 0, k)))
        for key, value in tags.items():
            plane.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{99 - k}.dcm"))
        writer.Execute(plane)
    return folder


class TestFindStack:
    @pytest.mark.parametrize("affine", [SAGITTAL, TILT @ SAGITTAL, np.diag([0.5, 0.5, 3, 1])])
    def test_a_series_written_by_simpleitk(self, tmp_path, affine):
        stack = find_stack(write_with_itk(tmp_path / "series", VOXELS, affine))
        assert stack.shape == VOXELS.shape
        assert np.allclose(stack.affine, affine, atol=1e-5)
        assert np.array_equal(stack.read(), VOXELS)

    @pytest.mark.parametrize("affine", [SAGITTAL, TILT @ SAGITTAL])
    def test_the_same_as_itk_reads(self, tmp_path, affine):
        folder = write_slices(tmp_path / "series", VOXELS, affine)
        image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
        stack = find_stack(folder)
        assert np.array_equal(sitk.GetArrayFromImage(image).T, stack.read())
        assert np.allclose(np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing(), stack.affine[:3, :3])
        assert np.allclose(image.GetOrigin(), stack.affine[:3, 3])

    def test_slices_are_sorted_by_position(self, tmp_path):
        names = [f"IM{number}" for number in (5, 3, 7, 1, 0, 2, 6, 4)]
        stack = find_stack(write_slices(tmp_path, VOXELS, SAGITTAL, names))
        assert np.allclose(stack.affine, SAGITTAL) and np.array_equal(stack.read(), VOXELS)

    def test_a_left_handed_stack_is_turned_over(self, tmp_path):
        mirrored = SAGITTAL @ np.diag([1, 1, -1, 1.0])
        stack = find_stack(write_slices(tmp_path, VOXELS, mirrored))
        assert np.linalg.det(stack.affine[:3, :3]) > 0
        assert np.array_equal(stack.read(), VOXELS[:, :, ::-1])
        assert np.allclose(stack.affine @ (0, 0, 7, 1), mirrored @ (0, 0, 0, 1))

    def test_each_slice_has_its_own_rescale(self, tmp_path):
        changes = {k: {0x00281052: ("DS", 10.0), 0x00281053: ("DS", 0.5 * k)} for k in range(1, 8)}
        array = find_stack(write_slices(tmp_path, VOXELS, SAGITTAL, changes=changes)).read()
        plain = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "IM0003.dcm")))[0].T
        assert np.array_equal(array[:, :, 0], VOXELS[:, :, 0])
        assert np.allclose(array[:, :, 3], plain) and array.dtype.kind == "f"

    @pytest.mark.parametrize("per_frame_all", [False, True])
    @pytest.mark.parametrize("affine", [SAGITTAL, TILT @ SAGITTAL])
    @pytest.mark.parametrize("order", [None, [2, 0, 3, 1, 7, 6, 5, 4]])
    def test_enhanced(self, tmp_path, per_frame_all, affine, order):
        path = write_enhanced(tmp_path / "a.dcm", VOXELS, affine, order, per_frame_all=per_frame_all)
        for source in (path, tmp_path):
            stack = find_stack(source)
            assert np.allclose(stack.affine, affine, atol=1e-8) and np.array_equal(stack.read(), VOXELS)

    @pytest.mark.parametrize("same", [True, False])
    def test_enhanced_rescale(self, tmp_path, same):
        rescale = [(2, 5)] * 8 if same else [(k + 0.5, 10 * k) for k in range(8)]
        stack = find_stack(write_enhanced(tmp_path / "a.dcm", VOXELS, SAGITTAL, rescale=rescale))
        wanted = np.stack([VOXELS[:, :, k] * slope + intercept for k, (slope, intercept) in enumerate(rescale)], 2)
        assert np.allclose(stack.read(), wanted)

    def test_what_is_no_scan_is_passed_over(self, tmp_path):
        write_slices(tmp_path, VOXELS, SAGITTAL)
        write_report(tmp_path / "report.dcm")
        changes = {0x00080060: ("CS", "SEG")}
        write_dicom(tmp_path / "seg.dcm", slice_elements(VOXELS, SAGITTAL, 0, OTHER) | changes)
        changes = {0x00080060: ("CS", "OT"), 0x00200032: ("DS", None)}
        write_dicom(tmp_path / "screen.dcm", slice_elements(VOXELS, SAGITTAL, 0, OTHER) | changes)
        (tmp_path / "notes.txt").write_text("x" * 300, encoding="utf-8")
        shutil.copy(tmp_path / "IM0001.dcm", tmp_path / ".hidden.dcm")
        assert find_stack(tmp_path).shape == VOXELS.shape

    def test_one_file_stands_for_its_series(self, tmp_path):
        write_slices(tmp_path, VOXELS, SAGITTAL)
        write_slices(tmp_path, VOXELS[:, :, :5], SAGITTAL, [f"b{k}" for k in range(5)], series=OTHER)
        assert find_stack(tmp_path / "IM0003.dcm").shape[2] == 8
        assert find_stack(tmp_path / "b1").shape[2] == 5

    def test_two_slices_and_two_hundred(self, tmp_path):
        for count in (2, 200):
            voxels = np.zeros((2, 2, count), np.int16)
            assert find_stack(write_slices(tmp_path / str(count), voxels, SAGITTAL)).shape[2] == count


# What is done to a series of 8 slices, and what the user reads behind the folder's name.
def _without(folder):
    (folder / "IM0003.dcm").unlink()


def _double(folder):
    shutil.copy(folder / "IM0003.dcm", folder / "copy.dcm")


def _twice(folder):
    write_slices(folder, VOXELS, SAGITTAL, [f"b{k}" for k in range(8)])


def _change(**elements):
    def change(folder):
        values = {int(tag[1:], 16): value for tag, value in elements.items()}
        write_dicom(folder / "IM0003.dcm", slice_elements(VOXELS, SAGITTAL, 3) | values)

    return change


def _foreign_size(folder):
    write_dicom(folder / "IM0003.dcm", slice_elements(VOXELS[:4], SAGITTAL, 3))


def _single(folder):
    for path in sorted(folder.iterdir())[1:]:
        path.unlink()


def _leaning(folder):
    affine = SAGITTAL.copy()
    affine[1, 2] = 0.4
    for k in range(8):
        position = ("DS", [float(v) for v in (affine @ (0, 0, k, 1))[:3]])
        write_dicom(folder / f"IM{k:04d}.dcm", slice_elements(VOXELS, SAGITTAL, k) | {0x00200032: position})


REFUSED = {
    "missing": (
        _without,
        "has 8 mm between slices 3 and 4, elsewhere 4 mm: a slice is missing; export the whole series again",
    ),
    "displaced": (
        _change(t00200032=("DS", [17.0, -20.0, 5.0])),
        "has 5 mm between slices 3 and 4, elsewhere 4 mm: the slices are not evenly spaced; "
        "export the whole series again",
    ),
    "doubled": (_double, "has two slices at one position (IM0003.dcm and copy.dcm); remove one of them"),
    "every one twice": (
        _twice,
        "has 2 images of each slice (times, echoes or diffusion weightings), not one volume; pass one of them",
    ),
    "size": (_foreign_size, "1 of its 8 slices have another size (first: IM0003.dcm); move it away"),
    "patient": (
        _change(t00100020=("LO", "another")),
        "1 of its 8 slices have another patient (first: IM0003.dcm); move it away",
    ),
    "study": (
        _change(t0020000D=("UI", "1.2")),
        "1 of its 8 slices have another study (first: IM0003.dcm); move it away",
    ),
    "frame of reference": (
        _change(t00200052=("UI", "1.2")),
        "1 of its 8 slices have another frame of reference (first: IM0003.dcm); move it away",
    ),
    "pixel spacing": (
        _change(t00280030=("DS", [0.7, 0.6])),
        "1 of its 8 slices have another pixel spacing (first: IM0003.dcm); move it away",
    ),
    "orientation": (
        _change(t00200037=("DS", [1.0, 0.0, 0.0, 0.0, 0.0, -1.0])),
        "1 of its 8 slices have another orientation (first: IM0003.dcm); "
        "move it away; slices of several directions are no volume",
    ),
    "single": (_single, "is a single slice; pass a volume of 2 slices or more"),
    "leaning": (
        _leaning,
        "its slices do not lie straight above each other (by 2.8 mm, IM0007.dcm); resample it to a straight grid first",
    ),
}
DAMAGED = {
    "position": (_change(t00200032=("DS", None)), "has no position in space"),
    "position that is no number": (
        _change(t00200032=("DS", "1\\x\\3")),
        "cannot be read as DICOM (could not convert string to float: 'x')",
    ),
    "endless": (_change(t00200032=("DS", "1\\nan\\3")), "has no valid position in space"),
    "crooked": (_change(t00200037=("DS", [1.0, 0, 0, 1, 0, 0])), "has no valid position in space"),
    "no spacing": (_change(t00280030=("DS", None)), "has no pixel spacing"),
    "zero spacing": (_change(t00280030=("DS", [0.0, 1.0])), "has no pixel spacing"),
    "film": (_change(t00280008=("IS", 2)), "cannot be read as DICOM (it holds 60 of 120 bytes of pixels)"),
}


class TestRefusals:
    @pytest.mark.parametrize("kind", REFUSED)
    def test_series(self, tmp_path, kind):
        change, problem = REFUSED[kind]
        change(write_slices(tmp_path / "a", VOXELS, SAGITTAL))
        assert message(find_stack, tmp_path / "a") == f"{tmp_path}/a: {problem}"

    @pytest.mark.parametrize("kind", DAMAGED)
    def test_file(self, tmp_path, kind):
        change, problem = DAMAGED[kind]
        change(write_slices(tmp_path / "a", VOXELS, SAGITTAL))
        assert message(find_stack, tmp_path / "a") == (
            f"{tmp_path}/a/IM0003.dcm: {problem}; re-export the series or move the file away"
        )

    @pytest.mark.parametrize("length", [0, 100, 400, -70, -1])
    def test_a_file_that_is_cut_off(self, tmp_path, length):
        path = write_slices(tmp_path, VOXELS, SAGITTAL) / "IM0007.dcm"
        path.write_bytes(path.read_bytes()[:length])
        found = message(find_stack, tmp_path)
        assert found.startswith(f"{path}: cannot be read as DICOM (")
        assert found.endswith("); re-export the series or move the file away")

    def test_colours(self, tmp_path):
        elements = slice_elements(VOXELS, SAGITTAL, 0) | {0x00280002: ("US", 3), 0x7FE00010: ("OW", bytes(180))}
        write_dicom(tmp_path / "a.dcm", elements)
        assert message(find_stack, tmp_path / "a.dcm") == (
            f"{tmp_path}/a.dcm: holds colours, not a scan; re-export the series or move the file away"
        )

    def test_a_film(self, tmp_path):
        elements = slice_elements(VOXELS, SAGITTAL, 0) | {0x00280008: ("IS", 2), 0x7FE00010: ("OW", bytes(120))}
        write_dicom(tmp_path / "a.dcm", elements)
        assert message(find_stack, tmp_path / "a.dcm") == (
            f"{tmp_path}/a.dcm: has several frames without positions; re-export the series or move the file away"
        )

    def test_an_enhanced_file_of_several_times(self, tmp_path):
        path = write_enhanced(tmp_path / "a.dcm", VOXELS, SAGITTAL, [*range(8)] * 3)
        assert message(find_stack, path) == (
            f"{path}: has 3 images of each slice (times, echoes or diffusion weightings), not one volume; "
            "pass one of them"
        )

    def test_an_enhanced_file_with_one_frame_too_many(self, tmp_path):
        path = write_enhanced(tmp_path / "a.dcm", VOXELS, SAGITTAL, [0, 1, 2, 3, 3, 4])
        assert message(find_stack, path) == (
            f"{path}: has two slices at one position (a.dcm, frame 4 and a.dcm, frame 5); remove one of them"
        )
        path = write_enhanced(tmp_path / "b.dcm", VOXELS, SAGITTAL, [0, 1, 3, 4])
        assert "has 8 mm between slices 2 and 3, elsewhere 4 mm: a slice is missing" in message(find_stack, path)

    def test_an_enhanced_file_without_all_positions(self, tmp_path):
        path = write_enhanced(tmp_path / "a.dcm", VOXELS, SAGITTAL, changes={0x52009230: ("SQ", [b""])})
        assert "has not as many positions as frames" in message(find_stack, path)

    def test_pixels_that_cannot_be_decoded(self, tmp_path):
        elements = slice_elements(VOXELS, SAGITTAL, 3) | {0x7FE00010: ("OW", None)}
        fragments = b"\xfe\xff\0\xe0\0\0\0\0" + b"\xfe\xff\0\xe0\x08\0\0\0no JPEG " + b"\xfe\xff\xdd\xe0\0\0\0\0"
        tail = b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff" + fragments
        path = write_slices(tmp_path, VOXELS, SAGITTAL) / "IM0003.dcm"
        write_dicom(path, elements, syntax="1.2.840.10008.1.2.4.70", tail=tail)
        assert message(find_stack(tmp_path).read) == (
            f"{tmp_path}/IM0003.dcm: cannot be read as DICOM (its pixels cannot be decoded); "
            "export the whole series again"
        )

    def test_no_image_at_all(self, tmp_path):
        assert message(find_stack, tmp_path) == (
            f"{tmp_path}: holds no DICOM file; pass a folder with the files of an image series"
        )
        path = write_report(tmp_path / "a.dcm")
        assert message(find_stack, tmp_path) == (
            f"{tmp_path}: holds 1 DICOM objects, but no scan; pass the image series"
        )
        assert message(find_stack, path) == f"{path}: is a DICOM object without a scan; pass the image series"
        assert message(find_stack, tmp_path / "b") == f"{tmp_path}/b: does not exist; pass a scan or a folder of scans"

    def test_several_series(self, tmp_path):
        write_slices(tmp_path, VOXELS, SAGITTAL)
        write_slices(tmp_path, VOXELS, SAGITTAL, [f"b{k}" for k in range(8)], series=OTHER)
        one, two = f"{SERIES}.10", OTHER
        assert message(find_stack, tmp_path) == (
            f"{tmp_path}: holds 2 series; name one: {tmp_path}#{one} (3_t2_sag), {tmp_path}#{two} (3_t2_sag)"
        )
        assert find_stack(f"{tmp_path}#{two}").shape == VOXELS.shape
        assert message(find_stack, f"{tmp_path}#1.2") == (
            f"{tmp_path}#1.2: there is no such series in the folder; choose one of {one}, {two}"
        )

    def test_no_permission(self, tmp_path, monkeypatch):
        def denied(path):
            raise PermissionError(13, "Permission denied", str(path))

        write_slices(tmp_path, VOXELS, SAGITTAL)
        monkeypatch.setattr(dicom_series, "_file", denied)
        assert message(find_stack, tmp_path) == (
            f"{tmp_path}/IM0000.dcm: cannot be read (Permission denied); grant read access"
        )


class TestListSeries:
    def test_several_folders(self, tmp_path):
        write_slices(tmp_path / "a b", VOXELS, SAGITTAL)
        write_slices(tmp_path / "c", VOXELS, SAGITTAL, skip=[3])
        write_slices(tmp_path / "c", VOXELS, SAGITTAL, [f"b{k}" for k in range(8)], series=OTHER)
        write_report(tmp_path / "d/report.dcm")
        write_slices(tmp_path / ".trash", VOXELS, SAGITTAL)
        (tmp_path / "e").mkdir()
        (tmp_path / "e/lost.dcm").write_bytes(b"")
        first, second, third, fourth = list_series(tmp_path)
        assert first.source == f"{tmp_path}/a b" and first.problem is None
        assert (first.uid, first.number, first.description, first.files) == (SERIES + ".10", "3", "t2 sag", 8)
        assert second.source == f"{tmp_path}/c#{SERIES}.10" and second.files == 7
        assert second.problem.startswith(f"{second.source}: has 8 mm between slices 3 and 4")
        assert third.source == f"{tmp_path}/c#{OTHER}" and third.problem is None
        assert fourth.source == f"{tmp_path}/e/lost.dcm"
        assert fourth.problem == (
            f"{tmp_path}/e/lost.dcm: cannot be read as DICOM (the file is too short); re-export it or move it away"
        )

    def test_no_folder(self, tmp_path):
        assert message(list_series, tmp_path / "no") == f"{tmp_path}/no: is not a folder; pass a folder of DICOM files"
        assert list_series(tmp_path) == []

    def test_a_changed_file_is_read_again(self, tmp_path):
        write_slices(tmp_path, VOXELS, SAGITTAL)
        assert list_series(tmp_path)[0].problem is None
        write_dicom(tmp_path / "IM0003.dcm", slice_elements(VOXELS[:4], SAGITTAL, 3), MR)
        assert "another size" in list_series(tmp_path)[0].problem

    def test_labels(self, tmp_path):
        write_slices(tmp_path, VOXELS, SAGITTAL)
        assert series_label(tmp_path) == "" == series_label(tmp_path / "IM0000.dcm")
        changes = {k: {0x0008103E: ("LO", "T1/Tra (ax)")} for k in range(8)}
        write_slices(tmp_path, VOXELS, SAGITTAL, [f"b{k}" for k in range(8)], changes, OTHER)
        assert series_label(f"{tmp_path}#{OTHER}") == "3_T1_Tra_ax" == series_label(tmp_path / "b0")
        assert series_label(f"{tmp_path}#{SERIES}.10") == "3_t2_sag"
        write_slices(tmp_path, VOXELS, SAGITTAL, [f"c{k}" for k in range(8)], series=SERIES + ".12")
        assert series_label(f"{tmp_path}#{SERIES}.10") == "3_t2_sag_21143710"

    def test_a_mark_in_a_name(self, tmp_path):
        folder = write_slices(tmp_path / "a#1.2", VOXELS, SAGITTAL)
        assert split_path(folder) == (folder, None)
        assert split_path(f"{folder}#1.2") == (folder, "1.2")
        assert find_stack(folder).shape == find_stack(f"{folder}#{SERIES}.10").shape
        assert list_series(tmp_path)[0].source == str(folder)

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from common.data.dicom_seg import Algorithm, check_seg_source, write_dicom_seg
from common.data.dicom_series import find_stack
from common.data.label_scheme import LabelScheme
from common.errors import InputError
from tests.dicom_files import SERIES, slice_elements, write_dicom, write_enhanced, write_slices
from tests.helpers import write_nifti

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom")

SCHEME = LabelScheme.load("mrspineseg19")
REAL = Path(__file__).parents[4] / "shared" / "data" / "dicom_mr" / "series"
SHAPE = (6, 5, 8)
VOXELS = (np.random.default_rng(0).random(SHAPE) * 1000).astype(np.int16)
ALGORITHM = Algorithm("some_net", "1.2.3", "ab" * 32)
SAGITTAL = np.array([[0, 0, -4.0, 30], [0.5, 0, 0, -20], [0, -0.7, 0, 5], [0, 0, 0, 1]])
TILT = np.array([[1, 0, 0, 0], [0, np.cos(0.3), -np.sin(0.3), 0], [0, np.sin(0.3), np.cos(0.3), 0], [0, 0, 0, 1]])
MIRRORED = SAGITTAL @ np.diag([1, 1, -1, 1.0])
SHUFFLED = [2, 0, 3, 1, 7, 6, 5, 4]
# How a series is stored. Those whose slices run against the normal are turned over when they are read.
STORED = {
    "classic": lambda place: write_slices(place, VOXELS, SAGITTAL),
    "oblique": lambda place: write_slices(place, VOXELS, TILT @ SAGITTAL),
    "against the normal": lambda place: write_slices(place, VOXELS, TILT @ MIRRORED),
    "names in disorder": lambda place: write_slices(place, VOXELS, SAGITTAL, [f"IM{k}" for k in SHUFFLED]),
    "multi-frame": lambda place: write_enhanced(place / "a.dcm", VOXELS, TILT @ SAGITTAL),
    "frames in disorder": lambda place: write_enhanced(place / "a.dcm", VOXELS, SAGITTAL, SHUFFLED),
    "all in the frames": lambda place: write_enhanced(place / "a.dcm", VOXELS, SAGITTAL, SHUFFLED, per_frame_all=True),
}


def label_map(*values: int, seed: int = 1) -> np.ndarray:
    """Voxels of these values in disorder, nothing in the fourth slice."""
    labels = np.random.default_rng(seed).choice([0, 0, *values], size=SHAPE).astype(np.uint8)
    labels[:, :, 3] = 0
    return labels


def written(labels: np.ndarray, source: Path | str, target: Path):
    assert write_dicom_seg(labels, source, target, SCHEME, ALGORITHM)
    return highdicom.seg.segread(target)


def values_of(seg) -> dict[int, int]:
    """The value of each segment number, by the name that the segment bears."""
    by_name = {structure.name: structure.value for structure in SCHEME.all_structures}
    numbers = list(seg.segment_numbers)
    return {number: by_name[seg.get_segment_description(number).segment_label] for number in numbers}


def restored(seg, stack) -> np.ndarray:
    """The label map that the frames hold on the grid of the scan, placed by nothing but their positions in space."""
    labels, to_voxel = np.zeros(stack.shape, np.uint8), np.linalg.inv(stack.affine)
    values = values_of(seg)
    shared = seg.SharedFunctionalGroupsSequence[0]
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, float)
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    for frame, groups in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        # With one segment, DICOM has its number in the shared groups.
        holder = groups if "SegmentIdentificationSequence" in groups else shared
        value = values[holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber]
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        for row, column in np.argwhere(frame):
            point = position + orientation[0] * spacing[1] * column + orientation[1] * spacing[0] * row
            voxel = to_voxel @ (*point, 1)
            assert np.allclose(voxel, voxel.round(), atol=1e-3)
            x, y, z = voxel[:3].round().astype(int)
            assert labels[x, y, z] == 0
            labels[x, y, z] = value
    return labels


@pytest.mark.parametrize("stored", STORED)
class TestOnTheScan:
    def test_every_voxel_is_where_it_was(self, stored, tmp_path):
        source = STORED[stored](tmp_path / "scan")
        labels = label_map(2, 12, 19, 1)
        seg = written(labels, source, tmp_path / "a_seg.dcm")
        assert np.array_equal(restored(seg, find_stack(source)), labels)

    def test_each_frame_refers_to_the_slice_that_it_lies_on(self, stored, tmp_path):
        source = STORED[stored](tmp_path / "scan")
        seg = written(label_map(5, 14), source, tmp_path / "a_seg.dcm")
        of_slices, multi_frame = {}, []
        for file in find_stack(source).files:
            header = pydicom.dcmread(file)
            for number, groups in enumerate(header.get("PerFrameFunctionalGroupsSequence", [None]), start=1):
                holder = header if groups is None else groups.PlanePositionSequence[0]
                multi_frame.append(groups is not None)
                of_slices[header.SOPInstanceUID, number] = list(map(float, holder.ImagePositionPatient))
        assert len(seg.PerFrameFunctionalGroupsSequence) == 14  # 2 structures on 7 slices; empty frames are left out
        for groups in seg.PerFrameFunctionalGroupsSequence:
            (reference,) = groups.DerivationImageSequence[0].SourceImageSequence
            frame = reference.ReferencedFrameNumber if all(multi_frame) else 1
            position = groups.PlanePositionSequence[0].ImagePositionPatient
            assert np.allclose(of_slices[reference.ReferencedSOPInstanceUID, frame], list(map(float, position)))
        (series,) = seg.ReferencedSeriesSequence
        uids = {one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence}
        assert uids == {uid for uid, _ in of_slices} and series.SeriesInstanceUID == header.SeriesInstanceUID

    def test_highdicom_finds_the_same(self, stored, tmp_path):
        source = STORED[stored](tmp_path / "scan")
        labels = label_map(3, 4, 11)
        seg = written(labels, source, tmp_path / "a_seg.dcm")
        stack, volume = find_stack(source), seg.get_volume(combine_segments=True)
        values = np.array([0, *values_of(seg).values()], np.uint8)
        assert values.tolist() == [0, 3, 4, 11]
        # highdicom has (slices, rows, columns), and may count the slices from the other end.
        found, there = values[volume.array].transpose(2, 1, 0), volume.affine[:, [2, 1, 0, 3]]
        if not np.allclose(there, stack.affine, atol=1e-5):
            turned = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, SHAPE[2] - 1], [0, 0, 0, 1]])
            found, there = found[:, :, ::-1], there @ turned
        assert np.allclose(there, stack.affine, atol=1e-5) and np.array_equal(found, labels)


def test_what_is_said_of_each_segment(tmp_path):
    source = write_slices(tmp_path / "scan", VOXELS, SAGITTAL)
    seg = written(label_map(1, 12, 7), source, tmp_path / "a_seg.dcm")
    told = [(one.SegmentNumber, one.SegmentLabel, one.SegmentDescription) for one in seg.SegmentSequence]
    assert told == [
        (1, "S", "MRSpineSeg 1, sacrum"),
        (2, "T12", "MRSpineSeg 7, vertebra T12"),
        (3, "L4/L5", "MRSpineSeg 12, intervertebral disc L4/L5"),
    ]
    types = [one.SegmentedPropertyTypeCodeSequence[0] for one in seg.SegmentSequence]
    assert [(one.CodeValue, one.CodingSchemeDesignator, one.CodeMeaning) for one in types] == [
        ("54735007", "SCT", "Sacrum"), ("23215003", "SCT", "T12 vertebra"), ("84020006", "SCT", "L4/L5 disc"),
    ]  # fmt: skip
    for one, color in zip(seg.SegmentSequence, ([242, 50, 24], [24, 203, 242], [255, 242, 140]), strict=True):
        lab = highdicom.color.CIELabColor.from_dicom_value(one.RecommendedDisplayCIELabValue)
        assert np.allclose(lab.to_rgb(), color, atol=1)
        assert one.SegmentAlgorithmType == "AUTOMATIC" and one.SegmentAlgorithmName == "some_net"
        (algorithm,) = one.SegmentationAlgorithmIdentificationSequence
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("some_net", "1.2.3")
        assert algorithm.AlgorithmFamilyCodeSequence[0].CodeMeaning == "Artificial Intelligence"
        assert "ab" * 32 in "".join(algorithm.AlgorithmParameters)


def test_patient_study_and_place_are_the_scans_own(tmp_path):
    changes = {k: {0x00100010: ("PN", "Doe^Jane"), 0x00080050: ("SH", "A7"), 0x00200010: ("SH", "9")} for k in range(8)}
    source = write_slices(tmp_path / "scan", VOXELS, SAGITTAL, changes=changes)
    seg = written(label_map(1), source, tmp_path / "a_seg.dcm")
    scan = pydicom.dcmread(source / "IM0000.dcm")
    for name in ("PatientID", "PatientName", "StudyInstanceUID", "StudyID", "AccessionNumber", "FrameOfReferenceUID"):
        assert seg[name].value == scan[name].value and seg[name].value
    assert seg.Modality == "SEG" and seg.SegmentationType == "BINARY" and seg.SeriesNumber == 1003
    assert seg.SeriesInstanceUID != scan.SeriesInstanceUID
    again = written(label_map(1), source, tmp_path / "b_seg.dcm")
    assert len({one.SOPInstanceUID for one in (seg, again)} | {one.SeriesInstanceUID for one in (seg, again)}) == 4


def test_one_of_several_series(tmp_path):
    write_slices(tmp_path / "scan", VOXELS, SAGITTAL)
    other = SERIES + ".11"
    write_slices(tmp_path / "scan", VOXELS, TILT @ SAGITTAL, [f"b{k}" for k in range(8)], series=other)
    source, labels = f"{tmp_path / 'scan'}#{other}", label_map(6, 16)
    seg = written(labels, source, tmp_path / "a_seg.dcm")
    assert np.array_equal(restored(seg, find_stack(source)), labels)
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == other


def test_itk_reads_the_frames(tmp_path):
    """GDCM wants whole bytes in a frame, so the slices have 8 x 6 pixels here."""
    source = write_slices(tmp_path / "scan", np.zeros((8, 6, 4), np.int16), SAGITTAL)
    labels = np.random.default_rng(3).choice([0, 2], size=(8, 6, 4)).astype(np.uint8)
    written(labels, source, tmp_path / "a_seg.dcm")
    frames = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a_seg.dcm")))
    # highdicom puts the frames in the order of their positions, from right to left; these slices run to the right.
    assert np.array_equal(frames, (labels[:, :, ::-1] > 0).T * 255)


def test_a_real_series(tmp_path):
    if not REAL.is_dir():
        pytest.skip("the real series is not there (shared/data/dicom_mr)")
    stack = find_stack(REAL)
    labels, places = np.zeros(stack.shape, np.uint8), np.random.default_rng(4)
    for value in (1, 9, 18):
        labels[tuple(places.integers(0, stack.shape, (200, 3)).T)] = value
    check_seg_source(REAL)
    assert np.array_equal(restored(written(labels, REAL, tmp_path / "a_seg.dcm"), stack), labels)


def test_slices_that_differ_in_the_last_digits(tmp_path):
    """Scanners round the orientation of each slice for itself."""
    turned = {k: {0x00200037: ("DS", [0.0, 1.0, 1e-5 * k, 0.0, 0.0, -1.0])} for k in range(8)}
    source, labels = write_slices(tmp_path / "scan", VOXELS, SAGITTAL, changes=turned), label_map(2, 3)
    seg = written(labels, source, tmp_path / "a_seg.dcm")
    assert np.array_equal(restored(seg, find_stack(source)), labels)


def test_an_empty_label_map_is_no_file_and_removes_an_old_one(tmp_path):
    source, target = write_slices(tmp_path / "scan", VOXELS, SAGITTAL), tmp_path / "a_seg.dcm"
    for _ in range(2):
        assert write_dicom_seg(np.zeros(SHAPE, np.uint8), source, target, SCHEME, ALGORITHM) is False
        assert not target.exists()
        target.write_text("of an earlier run", encoding="utf-8")


def test_unknown_values_and_another_grid_are_refused(tmp_path):
    source, target = write_slices(tmp_path / "scan", VOXELS, SAGITTAL), tmp_path / "a_seg.dcm"
    with pytest.raises(ValueError, match=r"hold \[20\], which are no values of the scheme"):
        write_dicom_seg(label_map(20), source, target, SCHEME, ALGORITHM)
    with pytest.raises(ValueError, match="do not lie on the grid"):
        write_dicom_seg(label_map(2)[:-1], source, target, SCHEME, ALGORITHM)
    assert not target.exists()


def _without(tag: int):
    changes = {k: {tag: ("UI", None)} for k in range(8)}
    return lambda folder: write_slices(folder / "scan", VOXELS, SAGITTAL, changes=changes)


def _sex(folder: Path) -> Path:
    changes = {k: {0x00100040: ("CS", "Q")} for k in range(8)}
    return write_slices(folder / "scan", VOXELS, SAGITTAL, changes=changes)


def _multi_frame_twice(folder: Path) -> Path:
    write_enhanced(folder / "scan" / "a.dcm", VOXELS, SAGITTAL)
    further = SAGITTAL @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 8], [0, 0, 0, 1.0]])
    write_enhanced(folder / "scan" / "b.dcm", VOXELS, further, changes={0x00080018: ("UI", SERIES + ".20.2")})
    return folder / "scan"


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda folder: write_nifti(folder / "scan.nii.gz", VOXELS, SAGITTAL), "is no DICOM, to which a DICOM SEG"),
        (_without(0x00200052), "states no FrameOfReferenceUID"),
        (_without(0x0020000D), "states no StudyInstanceUID"),
        (_sex, "cannot be referred to by a DICOM SEG ('Q' is not a valid PatientSexValues)"),
        (_multi_frame_twice, "cannot be referred to by a DICOM SEG (Only one source image should be provided"),
    ],
    ids=["NIfTI", "no frame of reference", "no study", "an unknown value", "two multi-frame files"],
)
def test_scans_to_which_none_can_refer(make, problem, tmp_path):
    with pytest.raises(InputError) as error:
        check_seg_source(make(tmp_path))
    line = str(error.value)
    assert problem in line and line.startswith(str(tmp_path)) and "\n" not in line
    assert line.endswith("; choose another --output_format")


@pytest.mark.parametrize("stored", STORED)
def test_scans_to_which_one_can_refer(stored, tmp_path):
    check_seg_source(STORED[stored](tmp_path / "scan"))


def test_the_snomed_codes_are_dicoms_own():
    """Each structure's code and meaning stand in DICOM's context groups: none is made up."""
    from pydicom.sr.codedict import Collection, codes

    def group(name: str) -> dict[str, str]:
        listed = (getattr(codes, name), Collection(name))[1]
        return {code.meaning: code.value for code in listed.concepts.values() if code.scheme_designator == "SCT"}

    vertebrae, discs = group("CID7603"), group("CID7604")
    table = Path(__file__).parents[3] / "common" / "data" / "label_scheme.json"
    assert len(json.loads(table.read_text(encoding="utf-8"))["structures"]) == len(SCHEME.all_structures) == 19
    for structure in SCHEME.all_structures:
        value, meaning = structure.snomed
        if structure.name == "S":
            assert (value, meaning) == (codes.SCT.Sacrum.value, codes.SCT.Sacrum.meaning)
        elif structure.is_disc:
            assert meaning == f"{'L5/S1' if structure.name == 'L5/S' else structure.name} disc"
            assert discs[meaning] == value
        else:
            assert meaning == f"{structure.name} vertebra" and vertebrae[meaning] == value
    assert len({structure.snomed for structure in SCHEME.all_structures}) == 19


def test_a_written_file_is_whole_or_not_there(tmp_path, monkeypatch):
    source, target = write_slices(tmp_path / "scan", VOXELS, SAGITTAL), tmp_path / "a_seg.dcm"
    written(label_map(1), source, target)
    before = target.read_bytes()

    def full(self, place, *args, **kwargs):
        Path(place).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(highdicom.seg.Segmentation, "save_as", full)
    with pytest.raises(InputError, match="cannot be written"):
        write_dicom_seg(label_map(2), source, target, SCHEME, ALGORITHM)
    assert target.read_bytes() == before and [path.name for path in tmp_path.glob(".tmp*")] == []


def test_a_segmentation_beside_its_scan_is_no_scan(tmp_path):
    source = write_slices(tmp_path / "scan", VOXELS, SAGITTAL)
    written(label_map(2), source, source / "a_seg.dcm")
    assert find_stack(source).shape == SHAPE


def test_a_damaged_slice_is_named(tmp_path):
    source = write_slices(tmp_path / "scan", VOXELS, SAGITTAL)
    write_dicom(source / "IM0003.dcm", slice_elements(VOXELS[:4], SAGITTAL, 3))
    with pytest.raises(InputError, match="have another size"):
        check_seg_source(source)

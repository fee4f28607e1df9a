from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from PIL import Image

from common.data.label_writer import scan_name
from common.data.scan_reader import read_geometry
from common.errors import InputError
from common.handlers import SegmentationWriter
from tests.dicom_files import write_slices
from tests.helpers import affine_of, noise, write_nifti

SHAPE, AFFINE = (6, 10, 8), affine_of((4, 1, 2), (0.1, 0.2, 0))


@pytest.fixture
def bundle(tmp_path) -> Path:
    root = tmp_path / "bundle"
    (root / "configs").mkdir(parents=True)
    (root / "configs" / "metadata.json").write_text('{"bundle": "some_net", "version": "1.2.3"}', encoding="utf-8")
    (root / "model.pt").write_bytes(b"weights")
    return root


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "output"


def writer(bundle: Path, output: Path, **kwargs) -> SegmentationWriter:
    return SegmentationWriter(
        output, "mrspineseg17", bundle, bundle / "model.pt", **({"settings": {"aspp": True}} | kwargs)
    )


def labels(**voxels: int) -> np.ndarray:
    """A label map with that many voxels of each value, written v11=5 for five voxels of 11."""
    flat = np.zeros(np.prod(SHAPE), dtype=np.uint8)
    start = 0
    for name, count in voxels.items():
        flat[start : start + count] = int(name[1:])
        start += count
    return flat.reshape(SHAPE)


def prediction(scan: Path, array: np.ndarray, affine=AFFINE) -> MetaTensor:
    return MetaTensor(torch.from_numpy(array[None]), affine=torch.tensor(affine), meta={"filename_or_obj": str(scan)})


def segment(handler: SegmentationWriter, *predictions: MetaTensor) -> None:
    """Run an engine whose steps give one prediction each."""

    def step(engine: Engine, pred: MetaTensor) -> list[dict]:
        engine.state.batch = [{"id": scan_name(pred.meta["filename_or_obj"])}]
        return [{"pred": pred}]

    engine = Engine(step)
    handler.attach(engine)
    engine.run(list(predictions))


def rows(output: Path) -> list[dict[str, str]]:
    with open(output / "volumes.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def scan_file(folder: Path, name: str = "a", dtype=np.float32) -> Path:
    return write_nifti(folder / "scans" / f"{name}.nii.gz", (noise(SHAPE) * 100).astype(dtype), AFFINE)


def test_all_files_of_a_scan(tmp_path, bundle, output):
    scan, array = scan_file(tmp_path), labels(v11=5, v2=30)
    segment(writer(bundle, output), prediction(scan, array))
    assert {path.name for path in output.iterdir()} == {
        "a_seg.nii.gz", "a_seg.json", "a_overlay.png", "volumes.csv", "measures.csv", "labels.ctbl",
        "labels_itksnap.txt",
    }  # fmt: skip
    written = nib.load(output / "a_seg.nii.gz")
    assert np.array_equal(np.asarray(written.dataobj), array) and written.get_data_dtype() == np.uint8
    np.testing.assert_allclose(written.affine, AFFINE, atol=1e-5)
    with Image.open(output / "a_overlay.png") as picture:
        picture.load()
    assert [(row["structure"], row["value"], row["voxels"], row["volume_ml"]) for row in rows(output)] == [
        ("L5", "2", "30", "0.240"),
        ("L5/S", "11", "5", "0.040"),
    ]
    origin = json.loads((output / "a_seg.json").read_text(encoding="utf-8"))
    assert origin["input"]["sha256"] == hashlib.sha256(scan.read_bytes()).hexdigest()
    assert origin["weights"]["sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert (origin["bundle"], origin["version"], origin["settings"]) == ("some_net", "1.2.3", {"aspp": True})


def test_without_a_picture(tmp_path, bundle, output):
    segment(writer(bundle, output, overlay=False), prediction(scan_file(tmp_path), labels(v1=3)))
    assert not list(output.glob("*.png")) and (output / "a_seg.nii.gz").is_file()


class TestMeasures:
    def test_a_row_for_each_level(self, tmp_path, bundle, output):
        segment(writer(bundle, output), prediction(scan_file(tmp_path), labels(v11=5, v2=30)))
        with open(output / "measures.csv", newline="", encoding="utf-8") as file:
            found = {row["level"]: row for row in csv.DictReader(file)}
        assert len(found) == 18 and found["L5"]["case"] == "a" and found["L5"]["file"] == "a_seg.nii.gz"
        assert found["L5"]["height_middle_mm"] == "" and "cut by" in found["L5"]["missing"]
        assert found["L4"]["missing"] == "volume, heights and depth, slip: not in the label map"

    def test_a_second_run_keeps_other_cases(self, tmp_path, bundle, output):
        for name in ("a", "b", "b"):
            segment(writer(bundle, output), prediction(scan_file(tmp_path, name), labels(v2=30)))
        with open(output / "measures.csv", newline="", encoding="utf-8") as file:
            assert [row["case"] for row in csv.DictReader(file)] == ["a"] * 18 + ["b"] * 18

    def test_without(self, tmp_path, bundle, output):
        segment(writer(bundle, output, measures=False), prediction(scan_file(tmp_path), labels(v2=30)))
        assert not (output / "measures.csv").exists() and rows(output)


def test_nothing_found_is_no_row(tmp_path, bundle, output):
    segment(writer(bundle, output), prediction(scan_file(tmp_path), labels()))
    assert rows(output) == [] and (output / "a_seg.nii.gz").is_file()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_names_with_dots(tmp_path, bundle, output, suffix):
    scan = write_nifti(tmp_path / f"sub-01.T2{suffix}", noise(SHAPE), AFFINE)
    segment(writer(bundle, output), prediction(scan, labels(v1=3)))
    assert (output / "sub-01.T2_seg.nii.gz").is_file()
    assert rows(output)[0]["case"] == "sub-01.T2"


@pytest.mark.parametrize(("sform", "qform"), [(1, 1), (4, 0), (0, 2), (2, 3)])
def test_both_matrices_and_their_codes(tmp_path, bundle, output, sform, qform):
    image = nib.Nifti1Image(noise(SHAPE), None)
    image.set_qform(affine_of((4, 1, 2)), qform)
    image.set_sform(AFFINE, sform)
    nib.save(image, tmp_path / "a.nii.gz")
    scan = nib.load(tmp_path / "a.nii.gz")
    target = writer(bundle, output)
    target.count = 1
    target.write(prediction(tmp_path / "a.nii.gz", labels(v1=3), scan.affine), "a")
    written = nib.load(output / "a_seg.nii.gz")
    assert (int(written.header["sform_code"]), int(written.header["qform_code"])) == (sform, qform)
    np.testing.assert_allclose(written.get_sform(), scan.get_sform(), atol=1e-5)
    np.testing.assert_allclose(written.get_qform(), scan.get_qform(), atol=1e-5)
    np.testing.assert_allclose(written.affine, scan.affine, atol=1e-5)


def test_scaling_and_window_of_the_scan_are_not_the_label_maps(tmp_path, bundle, output):
    image = nib.Nifti1Image((noise(SHAPE) * 100).astype(np.int16), AFFINE)
    image.header.set_slope_inter(0.25, -7)
    image.header["cal_max"] = 80
    nib.save(image, tmp_path / "a.nii.gz")
    segment(writer(bundle, output), prediction(tmp_path / "a.nii.gz", labels(v11=5)))
    written = nib.load(output / "a_seg.nii.gz")
    assert set(np.unique(written.dataobj)) == {0, 11}
    assert float(written.header["cal_max"]) == 0


@pytest.mark.parametrize("what", ["shape", "affine"])
def test_another_grid_is_refused(tmp_path, bundle, output, what):
    array = labels(v1=3)[:-1] if what == "shape" else labels(v1=3)
    affine = AFFINE + np.diag([0, 0, 0.1, 0]) if what == "affine" else AFFINE
    with pytest.raises(InputError, match=r"a\.nii\.gz: the segmentation does not lie on its grid"):
        segment(writer(bundle, output), prediction(scan_file(tmp_path), array, affine))
    assert not (output / "a_seg.nii.gz").exists()


class TestVolumes:
    def test_a_second_run_keeps_other_cases_and_replaces_its_own(self, tmp_path, bundle, output):
        a, b = scan_file(tmp_path, "a"), scan_file(tmp_path, "b")
        segment(writer(bundle, output), prediction(a, labels(v1=3)), prediction(b, labels(v2=4)))
        segment(writer(bundle, output), prediction(b, labels(v3=5)))
        assert [(row["case"], row["value"], row["voxels"]) for row in rows(output)] == [
            ("a", "1", "3"),
            ("b", "3", "5"),
        ]

    def test_a_case_in_which_nothing_is_found_any_more(self, tmp_path, bundle, output):
        scan = scan_file(tmp_path)
        segment(writer(bundle, output), prediction(scan, labels(v1=3)))
        segment(writer(bundle, output), prediction(scan, labels()))
        assert rows(output) == []

    def test_an_error_on_the_way_keeps_what_was_done(self, tmp_path, bundle, output):
        good, bad = scan_file(tmp_path, "a"), scan_file(tmp_path, "b")
        with pytest.raises(InputError):
            segment(writer(bundle, output), prediction(good, labels(v1=3)), prediction(bad, labels()[:-1]))
        assert [row["case"] for row in rows(output)] == ["a"]


def test_a_folder_that_cannot_be_written(tmp_path, bundle):
    (tmp_path / "output").write_text("a file", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be written"):
        segment(writer(bundle, tmp_path / "output"), prediction(scan_file(tmp_path), labels(v1=3)))


@pytest.mark.parametrize(("output_format", "suffix"), [("mha", ".mha"), (".nrrd", ".nrrd"), ("nii", ".nii")])
def test_another_format(tmp_path, bundle, output, output_format, suffix):
    array = labels(v11=5)
    segment(writer(bundle, output, output_format=output_format), prediction(scan_file(tmp_path), array))
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(output / f"a_seg{suffix}"))).T
    assert np.array_equal(written, array) and rows(output)[0]["file"] == f"a_seg{suffix}"


def test_an_unknown_format_is_refused(bundle, output):
    problem = r"^--output_format png: is not known; choose one of nii\.gz, nii, mha, nrrd, dicom-seg$"
    with pytest.raises(InputError, match=problem):
        writer(bundle, output, output_format="png")


class TestDicomSeg:
    @pytest.fixture
    def series(self, tmp_path) -> Path:
        voxels = (noise(SHAPE) * 100).astype(np.int16)
        return write_slices(tmp_path / "scans" / "a", voxels, np.diag([-1.0, -1, 1, 1]) @ AFFINE)

    def test_structures_and_weights(self, bundle, output, series):
        highdicom = pytest.importorskip("highdicom")
        affine, array = read_geometry(series)[1], labels(v11=5, v2=30)
        segment(writer(bundle, output, output_format="dicom-seg"), prediction(series, array, affine))
        assert {path.name for path in output.iterdir()} == {
            "a_seg.dcm", "a_seg.json", "a_overlay.png", "volumes.csv", "measures.csv", "labels.ctbl",
            "labels_itksnap.txt",
        }  # fmt: skip
        seg = highdicom.seg.segread(output / "a_seg.dcm")
        assert [one.SegmentLabel for one in seg.SegmentSequence] == ["L5", "L5/S"]
        assert (seg.ManufacturerModelName, seg.SoftwareVersions) == ("some_net", "1.2.3")
        assert seg.DeviceSerialNumber == hashlib.sha256(b"weights").hexdigest()[:16]
        assert {row["file"] for row in rows(output)} == {"a_seg.dcm"}
        assert json.loads((output / "a_seg.json").read_text(encoding="utf-8"))["segmentation"] == "a_seg.dcm"

    def test_nothing_found(self, bundle, output, series, caplog):
        caplog.set_level("INFO")
        affine = read_geometry(series)[1]
        segment(writer(bundle, output, output_format="dicom-seg"), prediction(series, labels(), affine))
        assert not (output / "a_seg.dcm").exists() and rows(output) == []
        assert json.loads((output / "a_seg.json").read_text(encoding="utf-8"))["segmentation"] is None
        assert "0 structures -> no DICOM SEG, which has no way to say so" in caplog.text
        assert writer(bundle, output, output_format="dicom-seg").existing("a", series) == []


class TestExisting:
    """What a run would have to do again of what an earlier one has left."""

    @pytest.fixture
    def scan(self, tmp_path, bundle, output) -> Path:
        scan = scan_file(tmp_path)
        segment(writer(bundle, output), prediction(scan, labels(v1=3)))
        return scan

    def test_the_same_run(self, bundle, output, scan):
        assert writer(bundle, output).existing("a", scan) == []
        assert writer(bundle, output, overlay=False).existing("a", scan) == []
        assert writer(bundle, output, settings={"aspp": True, "device": "cuda:0"}).existing("a", scan) == []

    def test_nothing_yet(self, bundle, output, scan):
        assert writer(bundle, output).existing("b", scan) is None

    @pytest.mark.parametrize("ends", ["overlay.png", "seg.nii.gz", "seg.json"])
    def test_not_complete(self, bundle, output, scan, ends):
        (output / f"a_{ends}").unlink()
        assert writer(bundle, output).existing("a", scan) is None

    def test_another_format(self, bundle, output, scan):
        assert writer(bundle, output, output_format="mha").existing("a", scan) is None
        assert writer(bundle, output, output_format="dicom-seg").existing("a", scan) is None

    def test_another_result(self, tmp_path, bundle, output, scan):
        assert writer(bundle, output, settings={"aspp": False}).existing("a", scan) == ["aspp"]
        other = scan_file(tmp_path / "other")
        nib.save(nib.Nifti1Image(noise(SHAPE) + 1, AFFINE), other)
        assert writer(bundle, output).existing("a", other) == ["input"]
        (bundle / "model.pt").write_bytes(b"other weights")
        assert writer(bundle, output, overlay=False).existing("a", scan) == ["weights"]

    def test_where_files_lie_does_not_matter(self, tmp_path, bundle, output, scan):
        assert writer(bundle, output).existing("a", scan.rename(tmp_path / "b.nii.gz")) == []

    @pytest.mark.parametrize("text", ["{", "[]"])
    def test_a_broken_record(self, bundle, output, scan, text):
        (output / "a_seg.json").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=r"a_seg\.json: .*; remove it$"):
            writer(bundle, output).existing("a", scan)

    def test_rows_are_there_before_the_scan_counts_as_done(self, bundle, output, scan, monkeypatch):
        """A run that is killed behind a scan has its volumes, too."""
        target = writer(bundle, output)
        target._started(type("Engine", (), {"state": type("State", (), {"epoch_length": 1})}))
        target.write(prediction(scan, labels(v2=4)), "b")
        assert [row["case"] for row in rows(output)] == ["a", "b"]

from __future__ import annotations

import csv
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from common.data.atomic import write_json
from common.data.video import open_source
from common.engines import launch
from common.errors import InputError
from common.handlers import SegmentationWriter
from tests.bundles.runs import ROOT, copy_of, run
from tests.common.handlers.video_runs import scene
from tests.helpers import noise, write_nifti
from tests.tools.segment.conftest import AFFINE, SHAPE, TINY
from tests.video_files import cut, write_video
from tools.segment import segment
from tools.segment.__main__ import main


def message(*args, **kwargs) -> str:
    with pytest.raises(InputError) as error:
        segment(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def said(capsys, *words: object) -> tuple[int, str, str]:
    """Status, standard output and standard error of a command."""
    status = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return status, out, err


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


class TestScans:
    def test_it_is_the_bundles_own_run(self, weights, scans, tmp_path):
        """Bit for bit what `monai.bundle run` gives, with the settings of the weights typed by hand."""
        result = segment("safnet", scans / "a.nii.gz", tmp_path / "out", weights=weights("safnet"))
        ids = {**TINY["safnet"], "checkpoint": str(weights("safnet")), "input": str(scans / "a.nii.gz")}
        run(ROOT / "bundles" / "safnet", "inference", **ids, output_dir=str(tmp_path / "plain"))
        (item,) = result.items
        assert item.segmentation == tmp_path / "out" / "a_seg.nii.gz"
        assert item.segmentation.read_bytes() == (tmp_path / "plain" / "a_seg.nii.gz").read_bytes()
        with open(tmp_path / "plain" / "volumes.csv", newline="", encoding="utf-8") as file:
            assert item.rows == list(csv.DictReader(file)) and item.rows
        settings = [
            json.loads((tmp_path / name / "a_seg.json").read_text(encoding="utf-8"))["settings"]
            for name in ("out", "plain")
        ]
        assert settings[0] == settings[1] and settings[0]["spatial_size"] == [4, 32, 16]

    def test_a_folder(self, weights, scans, tmp_path, capsys):
        (scans / "broken.nii.gz").write_bytes(b"nothing")
        words = ["safnet", scans, "-o", tmp_path / "out", "--weights", weights("safnet"), "--statistics"]
        status, out, err = said(capsys, *words)
        assert status == 1
        line = f"error: {scans}/broken.nii.gz: cannot be read as NIfTI ("
        assert err.startswith(line) and err.endswith("; check or re-export the file\n") and err.count("\n") == 1
        assert re.search(r"^2 scans segmented on cpu, 1 failed \(.* s\)$", out, re.MULTILINE)
        assert f"results: {tmp_path}/out\n" in out and "1/2 a: " in out and "2/2 b: " in out
        assert {path.name for path in (tmp_path / "out").iterdir()} == {
            "a_seg.json", "a_seg.nii.gz", "b_seg.json", "b_seg.nii.gz", "volumes.csv", "measures.csv",
            "statistics.json", "log.txt", "labels.ctbl", "labels_itksnap.txt",
        }  # fmt: skip
        told = json.loads((tmp_path / "out" / "statistics.json").read_text(encoding="utf-8"))
        metadata = json.loads((ROOT / "bundles/safnet/configs/metadata.json").read_text(encoding="utf-8"))
        assert (told["bundle"], told["version"]) == ("safnet", metadata["version"])
        assert len(told["weights"]["sha256"]) == 64
        assert told["failures"] == [{"input": f"{scans}/broken.nii.gz", "problem": err[len("error: ") : -1]}]
        for name in "ab":
            labels = voxels(tmp_path / "out" / f"{name}_seg.nii.gz")
            one = told["scans"][name]
            assert (one["input"], one["segmentation"]) == (f"{scans}/{name}.nii.gz", f"{name}_seg.nii.gz")
            assert {row["value"]: row["voxels"] for row in one["structures"].values()} == {
                int(value): int((labels == value).sum()) for value in np.unique(labels) if value
            }
            for row in one["structures"].values():
                assert row["volume_ml"] == pytest.approx(row["voxels"] * 4 * 1.2 * 1.3 / 1000, abs=1e-3)

    def test_preview_and_format(self, weights, scans, tmp_path):
        result = segment(
            "sshsnet", scans / "a.nii.gz", tmp_path / "out", weights=weights("sshsnet"), fast=True, preview=True,
            output_format="mha",
        )  # fmt: skip
        (item,) = result.items
        assert item.segmentation == tmp_path / "out" / "a_seg.mha" and item.segmentation.is_file()
        assert item.preview == tmp_path / "out" / "a_overlay.png" and item.preview.is_file()
        assert json.loads(item.provenance.read_text(encoding="utf-8"))["settings"]["mode"] == "fast"
        assert (result.unit, result.device, result.failures) == ("scan", "cpu", [])

    def test_a_released_bundle_with_its_own_weights(self, weights, scans, tmp_path, monkeypatch):
        release = copy_of(ROOT / "bundles" / "safnet", tmp_path / "release")
        for suffix in (".pt", ".json"):
            shutil.copy(weights("safnet").with_suffix(suffix), release / "models")
        monkeypatch.chdir(tmp_path)
        (item,) = segment("release", "scans/a.nii.gz", "out").items
        assert item.segmentation == tmp_path / "out" / "a_seg.nii.gz" and item.segmentation.is_file()

    def test_dicom_in_dicom_out(self, weights, series, tmp_path):
        highdicom = pytest.importorskip("highdicom")
        names = {"weights": weights("safnet")}
        (seg,) = segment("safnet", series, tmp_path / "out", output_format="dicom-seg", **names).items
        (nifti,) = segment("safnet", series, tmp_path / "plain", **names).items
        labels = voxels(nifti.segmentation)
        assert seg.segmentation == tmp_path / "out" / "series_seg.dcm" and labels.any()
        read = highdicom.seg.segread(seg.segmentation)
        values = [int(one.SegmentDescription.split()[1].strip(",")) for one in read.SegmentSequence]
        assert values == [value for value in np.unique(labels) if value]
        for k in range(SHAPE[2]):  # the slices lie along the third axis of the label map, by their positions
            uid = f"1.2.826.0.1.3680043.2.1143.7.10.{k + 1}"
            frame = read.get_pixels_by_source_instance([uid], combine_segments=True, ignore_spatial_locations=True)[0]
            there = labels[:, :, k] if np.linalg.det(AFFINE[:3, :3]) > 0 else labels[:, :, -1 - k]
            assert np.array_equal(np.array([0, *values])[frame], there.T)

    def test_nothing_found_is_said(self, weights, scans, tmp_path, capsys, monkeypatch):
        write = SegmentationWriter.write
        monkeypatch.setattr(SegmentationWriter, "write", lambda self, pred, *a, **k: write(self, pred * 0, *a, **k))
        words = ["safnet", scans, "-o", tmp_path / "out", "--weights", weights("safnet")]
        status, out, _ = said(capsys, *words)
        assert status == 0 and "nothing was found in a, b\n" in out


class TestVideos:
    def test_a_video(self, weights, tmp_path, capsys):
        video = write_video(tmp_path / "one.mp4", scene(7))
        words = ["funet", video, "-o", tmp_path / "out", "--weights", weights("funet"), "--statistics", "--preview"]
        status, out, err = said(capsys, *words)
        assert (status, err) == (0, "") and "1 video segmented on cpu (" in out
        assert {path.name for path in (tmp_path / "out").iterdir()} == {
            "one_mask.mkv", "one_overlay.mp4", "one_frames.csv", "one_seg.json", "statistics.json", "log.txt",
        }  # fmt: skip
        told = json.loads((tmp_path / "out" / "statistics.json").read_text(encoding="utf-8"))["videos"]["one"]
        with open_source(tmp_path / "out" / "one_mask.mkv") as source:
            masks = [frame.image[..., 0] > 0 for frame in source]
        assert (told["frames"], told["frames_found"]) == (7, sum(bool(mask.any()) for mask in masks))
        assert told["mean_area_share"] == pytest.approx(np.mean([mask.mean() for mask in masks]), abs=1e-4)
        assert told["max_area_share"] == pytest.approx(max(mask.mean() for mask in masks), abs=1e-4)
        assert told["segmentation"] == "one_mask.mkv" and told["input"] == str(video)

    def test_a_folder_of_which_one_breaks_off(self, weights, tmp_path):
        (tmp_path / "videos").mkdir()
        write_video(tmp_path / "videos" / "good.mkv", scene(40), options={"g": "5"})
        bad = cut(write_video(tmp_path / "videos" / "bad.mkv", scene(40), options={"g": "5"}), 0.5)
        names = {"weights": weights("bess"), "ids": {"gate_threshold": 0}, "output_format": "png"}
        result = segment("bess", tmp_path / "videos", tmp_path / "out", **names)
        assert [item.name for item in result.items] == ["bad", "good"] and not any(i.kept for i in result.items)
        assert [failure.source for failure in result.failures] == [str(bad)]
        rows = [item.rows for item in result.items]
        assert 0 < len(rows[0]) < 40 and len(rows[1]) == 40
        assert len(list(result.items[0].segmentation.glob("*.png"))) == len(rows[0])
        assert result.items[1].statistics["frames_present"] == 40
        # What broke off is tried again, and fails again; the other is kept.
        again = segment("bess", tmp_path / "videos", tmp_path / "out", **names)
        assert [(item.name, item.kept) for item in again.items] == [("bad", False), ("good", True)]
        assert again.failures == result.failures

    def test_another_network_of_the_bundle(self, weights, tmp_path):
        """The configuration file follows from the weights."""
        video = write_video(tmp_path / "one.mp4", scene(3))
        other = tmp_path / "model.pt"
        shutil.copy(weights("funet"), other)
        write_json(other.with_suffix(".json"), {"model": "unet", "spatial_size": [32, 48]})
        line = message("funet", video, tmp_path / "out", weights=other)
        assert line.startswith(f"{other}: does not fit this network (") and "first: network." in line

    def test_what_is_not_ours_is_not_replaced(self, weights, tmp_path):
        video = write_video(tmp_path / "one.mp4", scene(3))
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "one_mask.mkv").write_text("drawn by hand", encoding="utf-8")
        line = message("funet", video, tmp_path / "out", weights=weights("funet"))
        assert line == f"{tmp_path}/out/one_mask.mkv: exists; pass another --output, or --overwrite"
        assert (tmp_path / "out" / "one_mask.mkv").read_text(encoding="utf-8") == "drawn by hand"


class TestAgain:
    """A second run into the same folder."""

    def test_what_is_done_is_kept(self, weights, scans, tmp_path, capsys):
        names = {"weights": weights("safnet"), "statistics": True}
        segment("safnet", scans / "a.nii.gz", tmp_path / "out", **names)
        marked = tmp_path / "out" / "a_seg.nii.gz"
        marked.write_bytes(b"corrected by hand")
        result = segment("safnet", scans, tmp_path / "out", **names)
        assert [(item.name, item.kept) for item in result.items] == [("a", True), ("b", False)]
        assert marked.read_bytes() == b"corrected by hand"
        assert all(item.rows for item in result.items)
        told = json.loads((tmp_path / "out" / "statistics.json").read_text(encoding="utf-8"))
        assert list(told["scans"]) == ["a", "b"]
        words = ["safnet", scans, "-o", tmp_path / "out", "--weights", weights("safnet")]
        status, out, err = said(capsys, *words)
        assert (status, err) == (0, "") and "0 scans segmented on cpu, 2 kept from an earlier run (" in out

    def test_overwrite(self, weights, scans, tmp_path):
        names = {"weights": weights("safnet")}
        (first,) = segment("safnet", scans / "a.nii.gz", tmp_path / "out", **names).items
        before = first.segmentation.read_bytes()
        first.segmentation.write_bytes(b"spoilt")
        (second,) = segment("safnet", scans / "a.nii.gz", tmp_path / "out", overwrite=True, **names).items
        assert not second.kept and second.segmentation.read_bytes() == before

    def test_a_preview_is_added(self, weights, scans, tmp_path):
        names = {"weights": weights("safnet")}
        segment("safnet", scans / "a.nii.gz", tmp_path / "out", **names)
        (item,) = segment("safnet", scans / "a.nii.gz", tmp_path / "out", preview=True, **names).items
        assert not item.kept and item.preview.is_file()

    def test_another_scan_of_that_name_and_other_settings(self, weights, scans, tmp_path):
        names = {"weights": weights("safnet")}
        (item,) = segment("safnet", scans / "a.nii.gz", tmp_path / "out", **names).items
        before = item.segmentation.read_bytes()
        other = write_nifti(tmp_path / "other" / "a.nii.gz", noise(SHAPE, 7), AFFINE)
        record = f"{tmp_path}/out/a_seg.json"
        line = f"{record}: belongs to a result that differs in {{}}; pass another --output, or --overwrite"
        assert message("safnet", other, tmp_path / "out", **names) == line.format("input")
        ids = {"precision": "bf16", "largest_component": True}
        wanted = line.format("largest_component and precision")
        assert message("safnet", scans / "a.nii.gz", tmp_path / "out", ids=ids, **names) == wanted
        assert item.segmentation.read_bytes() == before

    @pytest.mark.parametrize("stop", ["segmentation", "provenance"])
    def test_interrupted(self, weights, scans, tmp_path, capsys, monkeypatch, stop):
        """Ctrl-C within the second scan: before it, or when all but its last file is written."""
        words = ["safnet", scans, "-o", tmp_path / "out", "--weights", weights("safnet")]
        module = "common.handlers.segmentation_writer"
        name = {"segmentation": "write_label_map", "provenance": "write_json"}[stop]
        original, calls = getattr(sys.modules[module], name), []

        def stopped(*args):
            calls.append(args)
            if len(calls) == 2:
                raise KeyboardInterrupt
            original(*args)

        with monkeypatch.context() as patch:
            patch.setattr(f"{module}.{name}", stopped)
            status, _, err = said(capsys, *words)
        assert status == 130
        assert err == "interrupted; what was finished is kept, and the same command goes on from there\n"
        assert not list((tmp_path / "out").glob(".tmp*"))
        before = (tmp_path / "out" / "a_seg.nii.gz").stat().st_mtime_ns
        result = segment("safnet", scans, tmp_path / "out", weights=weights("safnet"))
        assert [(item.name, item.kept) for item in result.items] == [("a", True), ("b", False)]
        assert (tmp_path / "out" / "a_seg.nii.gz").stat().st_mtime_ns == before
        assert all(item.rows for item in result.items)

    def test_an_interrupted_video_is_begun_anew(self, weights, tmp_path, monkeypatch):
        video = write_video(tmp_path / "one.mp4", scene(9))
        module = "common.handlers.video_writer"
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            calls: list[object] = []
            original = sys.modules[module].MaskVideoWriter.write

            def stopped(self, *args):
                calls.append(args)
                if len(calls) == 5:
                    raise KeyboardInterrupt
                original(self, *args)

            patch.setattr(f"{module}.MaskVideoWriter.write", stopped)
            segment("funet", video, tmp_path / "out", weights=weights("funet"))
        assert json.loads((tmp_path / "out" / "one_seg.json").read_text(encoding="utf-8"))["complete"] is False
        (item,) = segment("funet", video, tmp_path / "out", weights=weights("funet")).items
        assert not item.kept and len(item.rows) == 9
        (item,) = segment("funet", video, tmp_path / "out", weights=weights("funet")).items
        assert item.kept and len(item.rows) == 9

    def test_a_process_that_is_interrupted(self, weights, scans, tmp_path):
        """The real thing: Ctrl-C when the first line of many is there."""
        for number in range(40):
            shutil.copy(scans / "a.nii.gz", scans / f"c{number:02d}.nii.gz")
        command = [sys.executable, "-m", "tools.segment", "safnet", str(scans), "-o", str(tmp_path / "out")]
        command += ["--weights", str(weights("safnet"))]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert next((line for line in process.stdout if line.startswith("1/42 a: ")), None)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
        # Python ends by the signal where an expression (of the configuration) was interrupted: 130 to a shell.
        assert process.returncode in (130, -signal.SIGINT)
        assert err == "interrupted; what was finished is kept, and the same command goes on from there\n"
        done = {path.name.split("_")[0] for path in (tmp_path / "out").glob("*_seg.json")}
        assert 1 <= len(done) < 42 and "a" in done
        with open(tmp_path / "out" / "volumes.csv", newline="", encoding="utf-8") as file:
            assert {row["case"] for row in csv.DictReader(file)} >= done


class TestErrors:
    def test_no_weights(self, scans, tmp_path, capsys):
        status, out, err = said(capsys, "safnet", scans, "-o", tmp_path / "out", "--weights", tmp_path / "none.pt")
        problem = "there are no weights; train first, or pass --weights with trained weights"
        assert (status, out, err) == (1, "", f"error: {tmp_path}/none.pt: {problem}\n")
        assert "Traceback (most recent call last)" in (tmp_path / "out" / "log.txt").read_text(encoding="utf-8")

    @pytest.mark.parametrize(
        ("words", "line"),
        [
            (["--device", "gpux"], "--device gpux: is not a device; pass --device cpu, or cuda:0 for a GPU"),
            (["--fast"], "--fast: safnet has no faster mode (on CUDA it uses half precision anyway); leave it out"),
            (["--previw"], "--previw: is not an option; did you mean --preview?"),
            (["--output_dir", "x"], "--output_dir: is not an option; did you mean --output?"),
            (["--checkpoint", "x.pt"], "checkpoint: is --weights here; pass it as --weights"),
            (["--spacial_size", "[4,32,16]"], "--spacial_size: is not an id of this configuration; did you mean"),
            (["--spatial_size"], "--spatial_size : is not a list of 3 whole numbers; pass one such as"),
            (["--precision=fp8"], "--precision fp8: is not known; choose one of auto, fp32, bf16, fp16"),
            (["--spatial_size", "[4,32,32]"], "{weights}: was trained with spatial_size [4,32,16], not [4,32,32]"),
            (["--format", "tiff"], "--format tiff: is nothing that safnet writes; choose nifti, mha, nrrd or"),
            (["--format", "dicom-seg"], "{scans}: none of its 2 scans can be used (first: {scans}/a.nii.gz: is no"),
        ],
    )
    def test_options(self, words, line, weights, scans, tmp_path, capsys):
        given = ["safnet", scans, "-o", tmp_path / "out", "--weights", weights("safnet"), *words]
        status, _, err = said(capsys, *given)
        wanted = line.format(weights=weights("safnet"), scans=scans)
        assert status == 1 and err.startswith(f"error: {wanted}") and err.count("\n") == 1
        assert not list((tmp_path / "out").glob("*_seg*")) if (tmp_path / "out").exists() else True

    @pytest.mark.parametrize(
        ("words", "line"),
        [
            (["safnet"], "error: the following arguments are required: INPUT, -o/--output; see --help"),
            (["safnet", "a", "b", "-o", "c"], "error: unrecognized arguments: b; see --help"),
            (["safnet", "a", "-o"], "error: argument -o/--output: expected one argument; see --help"),
        ],
    )
    def test_command_lines(self, words, line, capsys):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 1 and capsys.readouterr().err == line + "\n"

    def test_inputs_and_folders(self, weights, scans, tmp_path):
        names = {"weights": weights("safnet")}
        line = f"{tmp_path}/none: does not exist; pass INPUT with a scan or a folder of scans"
        assert message("safnet", tmp_path / "none", tmp_path / "out", **names) == line
        line = message("safnet", scans, scans / "a.nii.gz", **names)
        assert line.startswith(f"{scans}/a.nii.gz: cannot be written (") and line.endswith("another --output")
        assert message("safnet", scans, tmp_path / "a#b", **names).startswith(f"--output {tmp_path}/a#b: has a '#'")

    def test_an_error_of_the_program_names_the_log(self, weights, scans, tmp_path, capsys, monkeypatch):
        def fail(*args, **kwargs):
            raise RuntimeError("out of memory")

        monkeypatch.setattr("common.handlers.segmentation_writer.write_label_map", fail)
        words = ["safnet", scans, "-o", tmp_path / "out", "--weights", weights("safnet")]
        status, _, err = said(capsys, *words)
        log = tmp_path / "out" / "log.txt"
        assert status == 1 and err == f"error: RuntimeError: out of memory; the traceback is in {log}\n"
        assert "in fail" in log.read_text(encoding="utf-8")

    def test_quiet(self, weights, scans, tmp_path, capsys):
        words = ["safnet", scans, "-o", tmp_path / "out", "--weights", weights("safnet"), "--quiet"]
        assert said(capsys, *words) == (0, "", "")
        assert "a: " in (tmp_path / "out" / "log.txt").read_text(encoding="utf-8")


def test_the_process_is_left_as_it_was(weights, scans, tmp_path, capfd):
    root, common = logging.getLogger(), logging.getLogger("common")
    before = (list(sys.path), list(root.handlers), root.level, common.level, list(common.handlers))
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        segment("safnet", scans / "a.nii.gz", tmp_path / "out", weights=weights("safnet"))
        with pytest.raises(InputError):
            segment("safnet", tmp_path / "none", tmp_path / "out", weights=weights("safnet"))
    assert before == (list(sys.path), list(root.handlers), root.level, common.level, list(common.handlers))
    assert not complaints and capfd.readouterr() == ("", "")
    assert launch._log_file == tmp_path / "out" / "log.txt"


def test_device_words(weights, scans, tmp_path):
    names = {"weights": weights("safnet")}
    (item,) = segment("safnet", scans / "a.nii.gz", tmp_path / "out", device="cpu", **names).items
    assert json.loads(item.provenance.read_text(encoding="utf-8"))["settings"]["device"] == "cpu"
    line = message("safnet", scans, tmp_path / "gpu", device="gpu:1", **names)
    assert line.startswith("--device gpu:1: is not a device; pass --device cpu, or cuda:0")

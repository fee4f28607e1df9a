"""A network with a gate, live and recorded."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from common.data.video import Frame
from tests.common.data.video.dataset_files import write_picture
from tests.tools.stream.two_stage_bundle import two_stages, write_bundle
from tools.stream import __main__ as program
from tools.stream.pipeline import FramePipeline

SIZE = (48, 64)
BRIGHT = [0.75, 0.55, 0.45, 0.2, 0.6]  # of each frame; the gate is at 0.5


def pictures() -> list[np.ndarray]:
    """Frames of noise about a brightness."""
    rng = np.random.default_rng(0)
    noise = [rng.uniform(-0.2, 0.2, (*SIZE, 3)) for _ in BRIGHT]
    return [np.round(255 * (mean + part)).astype(np.uint8) for mean, part in zip(BRIGHT, noise, strict=True)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def exam(tmp_path) -> Path:
    for index, picture in enumerate(pictures()):
        write_picture(tmp_path / "exam" / f"{index}.png", picture)
    return tmp_path / "exam"


def segmented(bundle: Path, **ids: object) -> tuple[FramePipeline, list]:
    pipeline = FramePipeline(bundle, ids)
    return pipeline, [pipeline(Frame(image, i, i / 30, str(i))) for i, image in enumerate(pictures())]


@pytest.mark.parametrize("threshold", [0.5, 0.1, 0.0, 1.0])
def test_the_masks_of_the_network(bundle, threshold):
    frames = torch.stack([torch.from_numpy(image).permute(2, 0, 1) / 255 for image in pictures()])
    network = two_stages(threshold)
    expected = network(frames)[:, 0].sigmoid() >= 0.5
    gate = network.gate(frames)
    _, found = segmented(bundle, gate_threshold=threshold)
    np.testing.assert_array_equal(np.stack([one.mask for one in found]), expected.numpy())
    assert [one.p_present for one in found] == pytest.approx(gate.tolist(), abs=1e-6)
    assert [one.present for one in found] == [one.seg_ran for one in found] == (gate >= threshold).tolist()


def test_the_segmenter_is_called_on_what_passes_only(bundle, monkeypatch):
    calls: list[torch.Size] = []
    monkeypatch.setattr(
        "tests.tools.stream.two_stage_bundle.Redness.forward", lambda _, x: calls.append(x.shape) or x[:, :1]
    )
    pipeline, found = segmented(bundle)
    assert [one.present for one in found] == [True, True, False, False, True] and len(calls) == 3
    assert set(found[0].milliseconds) == set(pipeline.steps) == {"preprocess", "classifier", "segmenter", "postprocess"}
    assert set(found[2].milliseconds) == {"preprocess", "classifier"} and not found[2].mask.any()
    assert {name: step["count"] for name, step in pipeline.times.summary().items()} == {
        "preprocess": 5, "classifier": 5, "segmenter": 3, "postprocess": 3,
    }  # fmt: skip


def run(bundle: Path, exam: Path, folder: Path, *more: str) -> tuple[dict, list[dict[str, str]]]:
    words = ["--source", exam, "--bundle", bundle, "--output", folder / "o.mp4", "--statistics", folder / "o.json"]
    assert program.main([*map(str, words), "--table", str(folder / "o.csv"), "--cut", "1", *more]) == 0
    with (folder / "o.csv").open(encoding="utf-8", newline="") as file:
        return json.loads((folder / "o.json").read_text(encoding="utf-8")), list(csv.DictReader(file))


def test_recorded(bundle, exam, tmp_path, capsys):
    found, rows = run(bundle, exam, tmp_path, "--every_frame")
    assert (found["segmented"], found["present"], found["found"]) == (5, 3, 3)
    assert "3 passed the gate" in capsys.readouterr().out
    assert list(rows[0]) == [
        "frame", "time_s", "p_present", "present", "seg_ran", "area_px",
        "ms_preprocess", "ms_classifier", "ms_segmenter", "ms_postprocess",
    ]  # fmt: skip
    assert [(row["frame"], row["present"], row["seg_ran"]) for row in rows] == [
        (str(i), passes, passes) for i, passes in enumerate("11001")
    ]
    for row in rows:
        passed = row["present"] == "1"
        assert (float(row["p_present"]) >= 0.5) is passed is (int(row["area_px"]) > 0)
        assert bool(row["ms_segmenter"]) is bool(row["ms_postprocess"]) is passed and row["ms_classifier"]


def test_the_gate_can_be_set(bundle, exam, tmp_path):
    found, rows = run(bundle, exam, tmp_path, "--every_frame", "--set", "gate_threshold=0.001")
    assert found["present"] == 5 and {row["seg_ran"] for row in rows} == {"1"}


def test_live(bundle, exam, tmp_path):
    """Each segmented frame has what it has in the recorded run, whichever they are."""
    found, rows = run(bundle, exam, tmp_path)
    whole = {row["frame"]: row for row in run(bundle, exam, tmp_path / "recorded", "--every_frame")[1]}
    assert found["received"] == 5 == found["segmented"] + found["dropped"] and rows[-1]["frame"] == "4"
    for row in rows:
        assert all(row[name] == whole[row["frame"]][name] for name in ("p_present", "present", "seg_ran", "area_px"))


def test_a_gate_that_was_never_trained(bundle, exam, tmp_path, capsys):
    network = two_stages()
    network.stages_trained.fill_(False)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    words = ["--source", str(exam), "--bundle", str(bundle), "--headless", "--checkpoint", str(tmp_path / "model.pt")]
    assert program.main(words) == 1
    assert "model.pt: its classifier was never trained" in capsys.readouterr().err

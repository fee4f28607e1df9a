from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from torch import nn

from common.data.video import Frame, open_source
from common.inferers import FrameStream
from common.networks import FUnet
from tests.common.data.video.dataset_files import write_picture
from tests.video_files import write_video
from tools.stream import __main__ as program
from tools.stream import pictures

ROOT = Path(__file__).resolve().parents[3]
BUNDLE = ROOT / "bundles" / "funet"
SIZE = (48, 64)
SETTINGS = {"frames": 3, "spatial_size": list(SIZE), "unet_features": [8, 16]}


def scene(count: int, size: tuple[int, int] = SIZE, seed: int = 0) -> list[np.ndarray]:
    """Pictures of a coloured pattern that moves a pixel a frame."""
    coarse = np.random.default_rng(seed).integers(0, 255, (size[0] // 8, size[1] // 8, 3))
    pattern = np.kron(coarse, np.ones((8, 8, 1))).astype(np.uint8)
    return [np.roll(pattern, index, axis=1) for index in range(count)]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> SimpleNamespace:
    """Weights of a small network that finds something in about half of the pixels, and its settings."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(7)
    network = FUnet(3, spatial_size=SIZE, unet_features=(8, 16)).requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    network(torch.randn(2, 3, 3, *SIZE))  # running statistics as after a training
    torch.save(network.state_dict(), folder / "model.pt")
    (folder / "small.json").write_text(json.dumps(SETTINGS), encoding="utf-8")
    return SimpleNamespace(checkpoint=str(folder / "model.pt"), config=str(folder / "small.json"))


@pytest.fixture
def words(made) -> list[str]:
    return ["--checkpoint", made.checkpoint, "--config_file", made.config, "--device", "cpu"]


@pytest.fixture
def masks(monkeypatch) -> list[np.ndarray]:
    """The masks that are drawn while a test runs."""
    found: list[np.ndarray] = []
    draw = pictures.draw_outline

    def watch(picture: np.ndarray, mask: np.ndarray, *style: object, **more: object) -> np.ndarray:
        found.append(mask)
        return draw(picture, mask, *style, **more)

    monkeypatch.setattr(pictures, "draw_outline", watch)
    return found


@pytest.fixture
def folder(tmp_path) -> Path:
    for index, picture in enumerate(scene(7)):
        write_picture(tmp_path / "exam" / f"f{index}.png", picture)
    return tmp_path / "exam"


@pytest.fixture
def video(tmp_path) -> Path:
    return write_video(tmp_path / "v.mp4", scene(7), times=[0, 0.04, 0.1, 0.3, 0.32, 0.4, 0.7])


def read(path: Path) -> list[Frame]:
    with open_source(path) as source:
        return list(source)


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def statistics(*words: object) -> dict:
    """Run the program to its end and return what it counted."""
    path = Path(words[words.index("--statistics") + 1])
    assert program.main([str(word) for word in words]) == 0
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", ["folder", "video"])
def test_every_frame_of_what_was_recorded(tmp_path, words, masks, kind, request, capsys):
    source, output = request.getfixturevalue(kind), tmp_path / "o.mp4"
    found = statistics(
        "--source", source, "--output", output, "--every_frame", "--statistics", tmp_path / "o.json", *words
    )  # fmt: skip
    given, written = read(source), read(output)
    np.testing.assert_allclose([frame.time for frame in written], [frame.time for frame in given], atol=1e-3)
    assert len(masks) == len(written) == 7 and {mask.shape for mask in masks} == {SIZE}
    assert (found["segmented"], found["found"], found["resets"]) == (7, sum(mask.any() for mask in masks), {})
    assert "received" not in found and found["source"] == str(source)
    assert set(found["steps_ms"]) == {"preprocess", "network", "postprocess", "draw", "write", "whole frame"}
    assert all(step["count"] == 7 and 0 <= step["p50"] <= step["p99"] for step in found["steps_ms"].values())
    assert "7 frames segmented on cpu" in capsys.readouterr().out


def inferred(source: Path, made: SimpleNamespace, output: Path) -> list[np.ndarray]:
    """The masks of the bundle's own inference."""
    parser = ConfigParser()
    parser.read_config([str(BUNDLE / "configs" / "inference.json"), made.config])
    parser.read_meta(str(BUNDLE / "configs" / "metadata.json"))
    ids = {"bundle_root": str(BUNDLE), "checkpoint": made.checkpoint, "input": str(source), "output_dir": str(output)}
    parser.config |= ids | {"device": torch.device("cpu"), "mask_format": "png", "overlay": False}
    parser.parse(reset=True)
    parser.get_parsed_content("evaluator").run()
    return [frame.image[..., 0] > 0 for frame in read(output / f"{source.stem}_mask")]


@pytest.mark.parametrize("size", [SIZE, (96, 128)])
def test_the_masks_are_those_of_the_bundles_inference(tmp_path, made, words, masks, size):
    """Frames are weighed by other clips there, which changes no sign of a logit, resized ones included."""
    video = write_video(tmp_path / "v.mp4", scene(7, size))
    program.main(["--source", str(video), "--output", str(tmp_path / "o.mp4"), "--every_frame", *words])
    wanted = inferred(video, made, tmp_path / "inference")
    np.testing.assert_array_equal(np.stack(masks), np.stack(wanted))
    assert 0.05 < np.mean(wanted) < 0.95


def test_without_inter_frame_attention(tmp_path, words, masks, folder, monkeypatch):
    """Other logits, the same masks."""
    logits: list[torch.Tensor] = []
    push = FrameStream.push
    monkeypatch.setattr(
        FrameStream, "push", lambda self, frame, **given: logits.append(push(self, frame, **given)) or logits[-1]
    )
    for name, more in (("a.mp4", []), ("b.mp4", ["--no_ifa"])):
        program.main(["--source", str(folder), "--output", str(tmp_path / name), "--every_frame", *words, *more])
    np.testing.assert_array_equal(np.stack(masks[:7]), np.stack(masks[7:]))
    assert float((torch.stack(logits[:7]) - torch.stack(logits[7:])).abs().max()) > 0.05


def test_ids_of_the_configuration_can_be_set(tmp_path, words, masks, folder):
    for name, more in (("a.mp4", []), ("b.mp4", ["--set", "threshold=0"])):
        program.main(["--source", str(folder), "--output", str(tmp_path / name), "--every_frame", *words, *more])
    assert 0 < np.mean(masks[:7]) < 1 and np.all(masks[7:])


@pytest.mark.parametrize("size", [(48, 64), (90, 121)])
def test_masks_have_the_size_of_the_frames(tmp_path, words, masks, size):
    for index, picture in enumerate(scene(2, (96, 128))):
        write_picture(tmp_path / "exam" / f"{index}.png", picture[: size[0], : size[1]])
    program.main(["--source", str(tmp_path / "exam"), "--output", str(tmp_path / "o.mp4"), "--every_frame", *words])
    assert [mask.shape for mask in masks] == [size] * 2


@pytest.fixture
def slow(monkeypatch) -> None:
    """A network that needs longer than the time between frames."""
    push = FrameStream.push

    def late(self: FrameStream, frame: torch.Tensor, **given: bool) -> torch.Tensor:
        time.sleep(0.15)
        return push(self, frame, **given)

    monkeypatch.setattr(FrameStream, "push", late)


def test_what_is_played_goes_on_while_frames_are_dropped(tmp_path, words, slow):
    source = write_video(tmp_path / "v.mp4", scene(25))  # a second
    output, table = tmp_path / "o.mp4", tmp_path / "o.csv"
    found = statistics(
        "--source", source, "--output", output, "--table", table, "--statistics", tmp_path / "o.json", "--cut", 1,
        *words,
    )  # fmt: skip
    assert found["received"] == 25 == found["segmented"] + found["dropped"]
    stamps = [frame.time for frame in read(output)]
    assert len(stamps) == found["shown"] > found["segmented"] > 0
    np.testing.assert_allclose(np.round(np.multiply(stamps, 25)) / 25, stamps, atol=1e-3)  # those of the source
    assert sum(found["outlines"].values()) == found["shown"] and found["outlines"]["own"] < found["segmented"]
    assert found["resets"] == {}  # frames that were dropped are no gap
    ages = found["outline_age_ms"]
    assert 0 <= ages["p50"] <= ages["p99"] and ages["count"] == found["shown"] - found["outlines"]["none"]
    assert {"preprocess", "network", "postprocess", "picture", "draw", "write"} == set(found["steps_ms"])
    rows = read_table(table)
    numbers = [int(row["frame"]) for row in rows]
    assert len(rows) == found["segmented"] and numbers == sorted(set(numbers)) and numbers[-1] == 24


def test_a_row_for_each_segmented_frame(tmp_path, words, video, masks):
    table, output = tmp_path / "new" / "o.csv", tmp_path / "o.mp4"
    words = [*words, "--source", str(video), "--output", str(output), "--table", str(table), "--every_frame"]
    assert program.main([*words, "--max_frames", "4"]) == 0
    rows = read_table(table)
    assert list(rows[0]) == ["frame", "time_s", "area_px", "ms_preprocess", "ms_network", "ms_postprocess"]
    given = read(video)[:4]
    assert [(int(row["frame"]), float(row["time_s"])) for row in rows] == [
        (frame.index, pytest.approx(frame.time, abs=1e-6)) for frame in given
    ]
    assert [int(row["area_px"]) for row in rows] == [mask.sum() for mask in masks]
    assert all(float(row["ms_network"]) > 0 for row in rows)


@pytest.mark.parametrize("way", [["--every_frame"], []])
def test_an_error_of_the_network_is_one_line(tmp_path, words, folder, way, capsys, caplog, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA out of memory\nand much more")

    monkeypatch.setattr(FrameStream, "push", fail)
    output = ["--output", str(tmp_path / "o.mp4"), "--statistics", str(tmp_path / "o.json")]
    assert program.main(["--source", str(folder), *output, *way, *words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: frame ") and "could not be segmented (RuntimeError: CUDA out of memory);" in line
    found = json.loads((tmp_path / "o.json").read_text(encoding="utf-8"))
    assert found["segmented"] == 0 and not caplog.records
    program.main(["--source", str(folder), "--headless", "--debug", *way, *words])
    assert any(record.exc_info and record.exc_info[0] is RuntimeError for record in caplog.records)


def test_a_cut_begins_anew(tmp_path, words, monkeypatch):
    resets: list[int] = []
    reset = FrameStream.reset
    monkeypatch.setattr(FrameStream, "reset", lambda self: (resets.append(len(self._memories)), reset(self)))
    source = write_video(tmp_path / "v.mp4", scene(5) + [255 - picture for picture in scene(4)])
    found = statistics(
        "--source", source, "--headless", "--every_frame", "--statistics", tmp_path / "o.json", *words
    )  # fmt: skip
    assert found["resets"] == {"cut": 1} and found["segmented"] == 9 and resets == [3]
    found = statistics(
        "--source", source, "--headless", "--every_frame", "--statistics", tmp_path / "o.json", "--cut", 1, *words
    )  # fmt: skip
    assert found["resets"] == {}


def test_max_frames(tmp_path, words, folder):
    found = statistics(
        "--source", folder, "--output", tmp_path / "o.mp4", "--every_frame", "--max_frames", 3,
        "--statistics", tmp_path / "o.json", *words,
    )  # fmt: skip
    assert found["segmented"] == 3 == len(read(tmp_path / "o.mp4"))


def test_a_window_that_is_closed_ends_it(tmp_path, words, folder, monkeypatch):
    shown: list[object] = []
    window = SimpleNamespace(close=lambda: shown.append("closed"), closed=False)

    def show(picture: np.ndarray) -> None:
        shown.append(picture.shape)
        window.closed = len(shown) == 2

    window.show = show
    monkeypatch.setattr(program, "Window", lambda title: window)
    found = statistics("--source", folder, "--every_frame", "--statistics", tmp_path / "o.json", *words)
    assert shown == [(*SIZE, 3), (*SIZE, 3), "closed"] and found["segmented"] == 2
    assert {"draw", "show"} <= set(found["steps_ms"])


def test_a_source_that_breaks_off(tmp_path, words, capsys):
    source = write_video(tmp_path / "v.mkv", scene(60), options={"g": "5"})
    data = source.read_bytes()
    source.write_bytes(data[: len(data) // 2])
    with_output = ["--source", str(source), "--output", str(tmp_path / "o.mp4"), "--every_frame"]
    assert program.main([*with_output, "--statistics", str(tmp_path / "o.json"), *words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {source}: ")
    found = json.loads((tmp_path / "o.json").read_text(encoding="utf-8"))
    assert 0 < found["segmented"] < 60 and len(read(tmp_path / "o.mp4")) == found["segmented"]


# What is passed (FOLDER, WEIGHTS and TMP stand for places that are there), and what the one line has to say.
MISTAKES = {
    "no source": (["--source", "TMP/nothing.mp4"], "nothing.mp4: does not exist"),
    "no video": (["--source", "WEIGHTS", "--headless"], "model.pt: is no video by its name"),
    "an output that exists": (["--output", "TMP/there.mp4"], "there.mp4: exists"),
    "an output of another kind": (["--output", "TMP/o.avi"], "o.avi: is written as .mp4"),
    "no display": ([], "window: cannot be opened"),
    "no value": (["--set", "spatial_size"], "--set spatial_size: is not of the form ID=VALUE"),
    "no id": (["--set", "treshold=0.4"], "--set treshold: is not an id of this configuration; did you mean threshold?"),
    "an unfit value": (["--set", "spatial_size=[1,2,3]"], "is not a list of 2 whole numbers"),
    "no bundle": (["--bundle", "TMP"], "is not a bundle (it has no configs/inference.json)"),
    "a bundle of another kind": (["--bundle", "SAFNET"], "is no bundle for video"),
    "no configuration": (["--config_file", "TMP/nothing.json"], "nothing.json: cannot be read"),
    "a broken configuration": (["--config_file", "TMP/broken.json"], "broken.json: cannot be read"),
    "no weights": (["--checkpoint", "TMP/nothing.pt"], "nothing.pt: there are no weights"),
    "weights of another kind": (["--checkpoint", "TMP/there.mp4"], "there.mp4: is not a file of weights"),
    "weights of another network": (["--set", "unet_features=[16,32]"], "does not fit this network"),
    "no such precision": (["--precision", "fp8"], "fp8"),
    "no such device": (["--device", "cuda:99"], "--device cuda:99: is not there"),
    "a table that exists": (["--table", "TMP/there.mp4"], "there.mp4: exists"),
    "a table in a file": (["--headless", "--table", "TMP/there.mp4/o.csv"], "o.csv: cannot be written"),
    "graphs without CUDA": (["--cuda_graphs"], "--cuda_graphs: needs CUDA, and the network runs on cpu"),
    "no age": (["--max_age", "0"], "--max_age 0.0: is not above 0"),
    "every frame of a camera": (
        ["--source", "rtsp://me:secret@host/a"],
        "is for recorded video, not for rtsp://host/a",
    ),
    "no frames": (["--max_frames", "0"], "--max_frames 0: is not above 0"),
    "fewer than none": (["--max_frames=-3"], "--max_frames -3: is not above 0"),
    "no frame rate": (["--frame_rate", "0"], "--frame_rate 0.0: is not above 0"),
    "a frame rate that is no number": (["--frame_rate", "nan"], "--frame_rate nan: is not above 0"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line(tmp_path, made, words, folder, mistake, capsys, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    (tmp_path / "there.mp4").touch()
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    places = {"TMP": str(tmp_path), "WEIGHTS": made.checkpoint, "SAFNET": str(ROOT / "bundles" / "safnet")}
    passed, problem = MISTAKES[mistake]
    for name, place in places.items():
        passed = [word.replace(name, place) for word in passed]
    before = set(tmp_path.rglob("*"))
    assert program.main(["--source", str(folder), "--every_frame", *words, *passed]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and problem in line and "secret" not in line
    assert set(tmp_path.rglob("*")) == before


@pytest.fixture
def running(tmp_path, words) -> Iterator[subprocess.Popen]:
    """The program in a process of its own, on a video of 20 s that it plays."""
    source = write_video(tmp_path / "long.mp4", scene(20) * 25, options={"preset": "ultrafast"})
    command = [sys.executable, "-m", "tools.stream", "--source", source, "--output", tmp_path / "o.mp4"]
    process = subprocess.Popen(
        [*map(str, command), *words, "--statistics", str(tmp_path / "o.json"), "--table", str(tmp_path / "o.csv")],
        cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, encoding="utf-8",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    yield process
    process.kill()
    process.wait()


@pytest.mark.skipif(sys.platform == "win32", reason="there, one process cannot send another Ctrl-C alone")
def test_ctrl_c_ends_a_running_stream(tmp_path, running):
    part, table = tmp_path / "o.part.mp4", tmp_path / "o.part.csv"
    for _ in range(20_000):  # on a busy machine it takes long to begin
        # Rows are written as they come; an encoder may hold back all of so small a video.
        if table.is_file() and len(table.read_text(encoding="utf-8").splitlines()) > 1:
            break
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0 and err == "" and "frames segmented on cpu" in out
    found = json.loads((tmp_path / "o.json").read_text(encoding="utf-8"))
    assert 0 < found["segmented"] <= found["received"] < 500 and len(read(tmp_path / "o.mp4")) == found["shown"]
    assert not part.exists()


def test_ctrl_c_while_it_loads(words, folder, capsys, monkeypatch):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "FramePipeline", stop)
    assert program.main(["--source", str(folder), "--headless", *words]) == 130
    assert capsys.readouterr().err == "interrupted\n"

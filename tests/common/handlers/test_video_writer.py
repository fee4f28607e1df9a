from __future__ import annotations

import csv
import gc
import hashlib
import json
import mmap
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Events
from PIL import Image
from torch import nn

from common.data.video import ClipStream
from common.data.video.windows import scoring_windows
from common.errors import InputError
from common.handlers import VideoSegmentationWriter
from common.visualize import draw_outline
from tests.common.data.video.dataset_files import write_picture
from tests.common.handlers.video_runs import (
    SIZE,
    BrightIsNerve,
    evaluator,
    frames_of,
    mask_of,
    probabilities_of,
    scene,
    write_bundle,
)
from tests.video_files import cut, write_video

TIMES = [0, 0.04, 0.1, 0.5, 0.52, 0.901, 1.3]  # seconds, of a video with a variable frame rate
STEPS = ("ms_read", "ms_network", "ms_postprocess", "ms_write")


@pytest.fixture
def bundle(tmp_path) -> Path:
    return write_bundle(tmp_path / "bundle")


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "output"


def write_frames(folder: Path, pictures: list[np.ndarray]) -> Path:
    for index, picture in enumerate(pictures):
        write_picture(folder / f"f{index + 8}.png", picture)  # f8, f9, f10: order by number
    return folder


def segment(
    source: Path, bundle: Path, output: Path, length: int = 5, network: nn.Module | None = None, **kwargs
) -> ClipStream:
    clips = ClipStream(source, length)
    writer = VideoSegmentationWriter(output, clips, bundle, bundle / "model.pt", **kwargs)
    evaluator(clips, [writer], network, kwargs.get("threshold", 0.5)).run()
    return clips


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def masks(path: Path) -> list[np.ndarray]:
    return [frame.image[..., 0] for frame in frames_of(path)]


def test_a_video_with_a_variable_frame_rate(tmp_path, bundle, output):
    video = write_video(tmp_path / "v.mp4", scene(7), times=TIMES)
    segment(video, bundle, output)
    assert files(output) == {"v_mask.mkv", "v_overlay.mp4", "v_frames.csv", "v_seg.json"}
    source = frames_of(video)
    for name in ("v_mask.mkv", "v_overlay.mp4"):
        found = frames_of(output / name)
        assert [frame.image.shape for frame in found] == [(*SIZE, 3)] * 7
        np.testing.assert_allclose([frame.time for frame in found], [frame.time for frame in source], atol=1e-3)
    np.testing.assert_allclose([frame.time for frame in source], TIMES, atol=1e-3)
    for found, frame in zip(masks(output / "v_mask.mkv"), source, strict=True):
        np.testing.assert_array_equal(found, mask_of(frame.image))
    assert 0 < np.mean(masks(output / "v_mask.mkv")) < 128


def test_the_overlay_shows_the_outline(tmp_path, bundle, output):
    video = write_video(tmp_path / "v.mp4", scene(6))
    segment(video, bundle, output)
    for found, frame in zip(frames_of(output / "v_overlay.mp4"), frames_of(video), strict=True):
        wanted = draw_outline(frame.image, mask_of(frame.image)).astype(int)
        other = np.abs(frame.image.astype(int) - wanted).mean()
        assert np.abs(found.image.astype(int) - wanted).mean() < other / 2


@pytest.mark.parametrize("size", [SIZE, (45, 61)])
def test_a_folder_of_frames(tmp_path, bundle, output, size):
    folder, pictures = tmp_path / "exam", scene(6, size)
    segment(write_frames(folder, pictures), bundle, output)
    assert files(output) == {"exam_mask", "exam_overlay.mp4", "exam_frames.csv", "exam_seg.json"}
    assert files(output / "exam_mask") == files(folder)
    for index, picture in enumerate(pictures):
        with Image.open(output / "exam_mask" / f"f{index + 8}.png") as mask:
            assert mask.mode == "L"
            np.testing.assert_array_equal(np.asarray(mask), mask_of(picture))
    assert len(frames_of(output / "exam_overlay.mp4")) == 6
    origin = json.loads((output / "exam_seg.json").read_text(encoding="utf-8"))
    assert origin["input"]["sha256_of_files"]["f8.png"] == hashlib.sha256((folder / "f8.png").read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", ["video", "png"])
def test_the_form_of_the_masks_can_be_chosen(tmp_path, bundle, output, kind):
    write_frames(tmp_path / "in" / "w", scene(3))
    write_video(tmp_path / "in" / "v.mp4", scene(3))
    segment(tmp_path / "in", bundle, output, mask_format=kind, overlay=False)
    ends = {"video": {"v_mask.mkv", "w_mask.mkv"}, "png": {"v_mask", "w_mask"}}[kind]
    assert files(output) == ends | {f"{name}_{end}" for name in "vw" for end in ("frames.csv", "seg.json")}
    if kind == "png":
        assert files(output / "v_mask") == {"000000.png", "000001.png", "000002.png"}


def test_another_form_of_masks(bundle, output, tmp_path):
    with pytest.raises(InputError, match="--mask_format tiff: is not known; choose video or png"):
        segment(write_frames(tmp_path / "f", scene(1)), bundle, output, mask_format="tiff")


@pytest.mark.parametrize("threshold", [0.5, 0.9])
def test_the_table(tmp_path, bundle, output, threshold):
    video = write_video(tmp_path / "v.mp4", scene(9), times=[index / 10 for index in range(9)])
    segment(video, bundle, output, threshold=threshold)
    found, source = rows(output / "v_frames.csv"), frames_of(video)
    columns = ("frame", "name", "time_s", "area_px", "area_share", "mean_probability", "mask_probability", *STEPS)
    assert tuple(found[0]) == columns
    assert [row["frame"] for row in found] == [str(index) for index in range(9)]
    for row, frame in zip(found, source, strict=True):
        mask, values = mask_of(frame.image, threshold) > 0, probabilities_of(frame.image)
        inside = values[values >= threshold]
        assert row["name"] == frame.name and float(row["time_s"]) == pytest.approx(frame.time, abs=1e-4)
        assert int(row["area_px"]) == mask.sum() and float(row["area_share"]) == pytest.approx(mask.mean(), abs=1e-5)
        assert float(row["mean_probability"]) == pytest.approx(float(values.mean()), abs=1e-5)
        if len(inside):
            assert float(row["mask_probability"]) == pytest.approx(float(inside.mean()), abs=1e-5)
        assert (row["mask_probability"] == "") == (len(inside) == 0)
        assert all(float(row[step]) >= 0 for step in STEPS)
    assert {row["mask_probability"] == "" for row in found} == {True, False}  # the scene has both


def test_provenance(tmp_path, bundle, output):
    video = write_video(tmp_path / "v.mp4", scene(3))
    segment(video, bundle, output, settings={"frames": 0, "threshold": 0.5})
    origin = json.loads((output / "v_seg.json").read_text(encoding="utf-8"))
    assert (origin["bundle"], origin["version"]) == ("some_net", "1.2.3")
    assert origin["input"]["sha256"] == hashlib.sha256(video.read_bytes()).hexdigest()
    assert origin["weights"]["sha256"] == hashlib.sha256(b"weights").hexdigest()


class Place(nn.Module):
    """Marks each frame by its place in the clip: the column of that number."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = torch.full_like(x[:, :, :1], -9.0)
        for place in range(x.shape[1]):
            logits[:, place, :, :, place] = 9.0
        return logits


@pytest.mark.parametrize("length", range(1, 13))
def test_each_frame_once_and_the_later_clip_wins(tmp_path, bundle, output, length):
    size = (24, 40)  # the network's own, so that columns stay columns
    segment(write_frames(tmp_path / "f", scene(length, size)), bundle, output, network=Place(), overlay=False)
    wanted = {
        frame: place
        for window in scoring_windows(length, 5)
        for place, (frame, keep) in enumerate(zip(window.frames, window.keep, strict=True))
        if keep
    }
    found = {}
    for frame in range(length):
        mask = np.asarray(Image.open(output / "f_mask" / f"f{frame + 8}.png"))
        found[frame] = int(np.flatnonzero(mask.any(axis=0))[0])
    assert found == wanted
    assert [int(row["frame"]) for row in rows(output / "f_frames.csv")] == list(range(length))


@pytest.fixture
def folder(tmp_path) -> Path:
    """A video, one that breaks off, and a folder of frames."""
    root = tmp_path / "in"
    root.mkdir()
    write_video(root / "a.mp4", scene(6))
    cut(write_video(root / "b.mkv", scene(60), options={"g": "5"}), 0.5)
    write_frames(root / "c", scene(3))
    return root


def test_what_breaks_off_is_kept_and_the_rest_goes_on(folder, bundle, output):
    clips = segment(folder, bundle, output)
    assert not list(output.glob("*.part.*"))
    found = masks(output / "b_mask.mkv")
    assert 5 < len(found) < 60 and len(frames_of(output / "b_overlay.mp4")) == len(found)
    assert len(rows(output / "b_frames.csv")) == len(found)
    assert json.loads((output / "b_seg.json").read_text(encoding="utf-8"))["frames"] == len(found)
    assert [len(masks(output / name)) for name in ("a_mask.mkv", "c_mask")] == [6, 3]
    with pytest.raises(InputError, match="1 of 3 videos could not be read to the end"):
        clips.finish()


@pytest.mark.parametrize("end", ["mask.mkv", "mask", "overlay.mp4", "frames.csv", "seg.json"])
def test_existing_outputs_are_refused_first(folder, bundle, output, end):
    output.mkdir()
    (output / f"c_{end}").touch()  # of the last one
    with pytest.raises(InputError, match=rf"c_{end}: exists; pass another --output_dir, or --overwrite true"):
        VideoSegmentationWriter(output, ClipStream(folder, 5), bundle, bundle / "model.pt")
    assert files(output) == {f"c_{end}"}


def test_overwrite(tmp_path, bundle, output):
    video = write_video(tmp_path / "v.mp4", scene(9))
    segment(video, bundle, output)
    write_video(video, scene(4))
    segment(video, bundle, output, overwrite=True)
    assert len(masks(output / "v_mask.mkv")) == len(frames_of(output / "v_overlay.mp4")) == 4
    assert len(rows(output / "v_frames.csv")) == 4


def test_masks_of_frames_that_are_no_more_are_not_kept(tmp_path, bundle, output):
    folder = write_frames(tmp_path / "exam", scene(6))
    segment(folder, bundle, output)
    (output / "exam_mask" / "notes.txt").touch()
    (output / "another_mask").mkdir()
    (output / "another_mask" / "f8.png").touch()
    (folder / "f8.png").unlink()
    segment(folder, bundle, output, overwrite=True)
    assert files(output / "exam_mask") == files(folder) | {"notes.txt"}
    assert files(output / "another_mask") == {"f8.png"}
    segment(folder, bundle, output, overwrite=True, mask_format="video")
    assert files(output / "exam_mask") == {"notes.txt"} and len(masks(output / "exam_mask.mkv")) == 5


class Fails(BrightIsNerve):
    """Raises at the third clip."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error, self.calls = error, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == 3:
            raise self.error
        return super().forward(x)


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
def test_a_run_that_fails_leaves_what_it_did(tmp_path, bundle, output, error):
    video = write_video(tmp_path / "v.mp4", scene(30))
    with pytest.raises(type(error)) as raised:
        segment(video, bundle, output, network=Fails(error))
    assert raised.value is error
    assert files(output) == {"v_mask.mkv", "v_overlay.mp4", "v_frames.csv", "v_seg.json"}
    source = frames_of(video)[:10]
    for found, frame in zip(masks(output / "v_mask.mkv"), source, strict=True):
        np.testing.assert_array_equal(found, mask_of(frame.image))
    assert len(frames_of(output / "v_overlay.mp4")) == len(rows(output / "v_frames.csv")) == 10


def test_a_table_that_cannot_be_begun_is_the_error(tmp_path, bundle, output):
    """It is the second video's: the first one's files are whole, and no empty ones stay."""
    for name in "ab":
        write_video(tmp_path / f"{name}.mp4", scene(6))
    (output / "b_frames.part.csv").mkdir(parents=True)
    with pytest.raises(InputError, match=r"b_frames\.csv: cannot be written \(Is a directory\)"):
        segment(tmp_path, bundle, output)
    assert files(output) == {"a_mask.mkv", "a_overlay.mp4", "a_frames.csv", "a_seg.json", "b_frames.part.csv"}
    assert len(masks(output / "a_mask.mkv")) == len(rows(output / "a_frames.csv")) == 6


def resident() -> int:
    """Bytes of memory of this process that are in use."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * mmap.PAGESIZE


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="the memory of a process is read from /proc (Linux)")
def test_memory_does_not_grow_with_the_video(tmp_path, bundle, output):
    """Of 300 more frames of 147 kB not a quarter stays: neither pictures nor masks."""
    video = write_video(tmp_path / "v.mp4", scene(20, (192, 256)) * 20, options={"preset": "ultrafast"})
    clips, taken = ClipStream(video, 5), []
    run = evaluator(clips, [VideoSegmentationWriter(output, clips, bundle, bundle / "model.pt")])
    run.add_event_handler(Events.ITERATION_COMPLETED(every=20), lambda: taken.append(resident()))
    run.run()
    assert len(rows(output / "v_frames.csv")) == 400 and len(taken) == 4
    assert max(taken[1:]) - taken[0] < 300 * 192 * 256 * 3 / 4

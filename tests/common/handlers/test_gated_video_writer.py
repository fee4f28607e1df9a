"""What is written of a two-stage network, and of frames that are looked at one by one."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.data import DataLoader, IterableDataset
from monai.engines import SupervisedEvaluator
from monai.transforms import Activationsd, AsDiscreted, Compose, CopyItemsd
from PIL import Image
from torch import nn

from common.data.video import ClipStream
from common.data.video.still_pictures import StillPictures
from common.errors import InputError
from common.handlers import VideoSegmentationWriter
from common.handlers.stage_outputs import StageOutputs
from common.inferers.gated import GatedInferer
from common.networks.two_stage import TwoStage
from common.transforms import FramesFirstd, LoadClipd, NormalizeFramesd
from common.visualize import draw_outline
from common.visualize.caption import draw_caption
from tests.common.data.video.dataset_files import write_picture
from tests.common.handlers.video_runs import GRID, LEVEL, SIZE, PatchIsTissue, frames_of, scene, write_bundle
from tests.video_files import cut, write_video

OTHER = (40, 56)
GATE_COLUMNS = ["p_present", "present", "seg_ran"]
STEPS = ["ms_read", "ms_network", "ms_classifier", "ms_segmenter", "ms_postprocess", "ms_write"]


class BrightIsTissue(nn.Module):
    """Logits (B, 1, H, W) of frames (B, 3, H, W) in 0..1; notes how many frames each call has, and may fail at one."""

    def __init__(self, fails_at: int = 0, error: BaseException | None = None) -> None:
        super().__init__()
        self.calls: list[int] = []
        self.fails_at, self.error = fails_at, error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.append(len(x))
        if len(self.calls) == self.fails_at:
            raise self.error
        return 12 * (x.mean(dim=1, keepdim=True) - LEVEL)


def has_tissue(picture: np.ndarray) -> bool:
    return picture.max() > 128


def mask_of(picture: np.ndarray) -> np.ndarray:
    """The mask of one picture, 0 and 255: blank without tissue."""
    pixels = torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None] / 255
    logits = BrightIsTissue()(F.interpolate(pixels, GRID, mode="bilinear"))
    full = F.interpolate(logits, picture.shape[:2], mode="bilinear")[0, 0].numpy()
    return np.where((full >= 0) & has_tissue(picture), 255, 0).astype(np.uint8)


def segment(
    source: Path, output: Path, length: int = 4, segmenter: nn.Module | None = None, **kwargs: Any
) -> ClipStream:
    """Run what a bundle's configuration of two stages runs."""
    bundle = output.parent / "bundle"
    if not bundle.is_dir():
        write_bundle(bundle)
    clips, inferer = ClipStream(source, length, still=True), GatedInferer()
    writer = VideoSegmentationWriter(output, clips, bundle, bundle / "model.pt", stages=inferer, **kwargs)
    before = Compose([LoadClipd(allow_missing_keys=True), NormalizeFramesd("image", "none"), FramesFirstd("image", 3)])
    after = [Activationsd("pred", sigmoid=True), CopyItemsd("pred", names="prob"), AsDiscreted("pred", threshold=0.5)]
    SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(IterableDataset(clips, before), batch_size=1),
        network=TwoStage(PatchIsTissue(), segmenter or BrightIsTissue(), 0.5, SIZE, GRID),
        inferer=inferer,
        postprocessing=Compose(after),
        val_handlers=[StageOutputs(inferer), writer],
    ).run()
    return clips


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "output"


@pytest.fixture
def video(tmp_path) -> Path:
    """Nine frames, of which one, the seventh, has no tissue."""
    return write_video(tmp_path / "v.mp4", scene(9))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Ten pictures of two sizes, in turns of three; the sixth is damaged, the seventh has no tissue."""
    for index, (one, other) in enumerate(zip(scene(10), scene(10, OTHER), strict=True)):
        write_picture(tmp_path / "exam" / f"f{index}.png", other if index // 3 % 2 else one)
    cut(tmp_path / "exam" / "f5.png", 0.5)
    return tmp_path / "exam"


# ------------------------------------------------------------------------------------------------------------- the gate


@pytest.mark.parametrize(("length", "calls"), [(1, [1] * 8), (4, [4, 3, 1]), (9, [8])])
def test_the_table_and_the_masks(video, output, length, calls):
    segmenter = BrightIsTissue()
    segment(video, output, length, segmenter)
    assert segmenter.calls == calls
    source, table = frames_of(video), rows(output / "v_frames.csv")
    assert list(table[0])[-9:] == [*GATE_COLUMNS, *STEPS]
    assert [row["frame"] for row in table] == [str(index) for index in range(9)]
    for row, frame, mask in zip(table, source, frames_of(output / "v_mask.mkv"), strict=True):
        passes = has_tissue(frame.image)
        p_present = torch.sigmoid(PatchIsTissue()(torch.tensor(frame.image.max() / 255).reshape(1, 1, 1, 1))).item()
        assert float(row["p_present"]) == pytest.approx(p_present, abs=2e-5)
        assert row["present"] == row["seg_ran"] == str(int(passes))
        np.testing.assert_array_equal(mask.image[..., 0], mask_of(frame.image))
        assert (float(row["ms_segmenter"]) > 0) == passes and float(row["ms_classifier"]) > 0
        parts = float(row["ms_classifier"]) + float(row["ms_segmenter"])
        assert float(row["ms_network"]) >= parts - 0.02  # each is rounded to a hundredth
    assert [row["present"] for row in table].count("0") == 1


def test_the_overlay_says_where_the_gate_is_closed(video, output):
    segment(video, output)
    table = rows(output / "v_frames.csv")
    for found, frame, row in zip(frames_of(output / "v_overlay.mp4"), frames_of(video), table, strict=True):
        plain = draw_outline(frame.image, mask_of(frame.image))
        told = draw_caption(plain, f"no tissue {float(row['p_present']):.2f}")
        plain, told = (np.abs(found.image.astype(int) - picture).mean() for picture in (plain, told))
        assert (plain < told) == (row["present"] == "1")


def test_the_line_in_the_log(video, output, caplog):
    with caplog.at_level(logging.INFO):
        segment(video, output)
    assert f"v: 9 frames, 8 passed the gate, something found in 8 -> {output}" in caplog.text


# ------------------------------------------------------------------------------------------ pictures of different sizes


@pytest.mark.parametrize("length", [1, 2, 8])
def test_pictures_of_different_sizes(folder, output, length):
    clips = segment(folder, output, length)
    assert files(output) == {"exam_mask", "exam_overlay", "exam_frames.csv", "exam_seg.json"}
    readable = files(folder) - {"f5.png"}
    assert files(output / "exam_mask") == files(output / "exam_overlay") == readable
    table = {row["name"]: row for row in rows(output / "exam_frames.csv")}
    assert set(table) == {Path(name).stem for name in readable}
    for name, row in table.items():
        picture = read(folder / f"{name}.png")
        mask = mask_of(picture)
        np.testing.assert_array_equal(read(output / "exam_mask" / f"{name}.png"), mask)
        drawn = draw_outline(picture, mask)
        if not has_tissue(picture):
            drawn = draw_caption(drawn, f"no tissue {float(row['p_present']):.2f}")
        np.testing.assert_array_equal(read(output / "exam_overlay" / f"{name}.png"), drawn)
        assert row["present"] == str(int(has_tissue(picture)))
    assert [row["present"] for row in table.values()].count("0") == 1
    origin = json.loads((output / "exam_seg.json").read_text(encoding="utf-8"))
    assert origin["frames"] == 9 and set(origin["input"]["sha256_of_files"]) == readable
    with pytest.raises(InputError, match=r"exam: 1 of 10 pictures could not be read \(first: .*f5\.png"):
        clips.finish()


def test_pictures_of_one_size_have_an_overlay_video(folder, output):
    for name in ("f3.png", "f4.png", "f5.png", "f9.png"):
        (folder / name).unlink()
    segment(folder, output)
    assert files(output) == {"exam_mask", "exam_overlay.mp4", "exam_frames.csv", "exam_seg.json"}
    assert len(frames_of(output / "exam_overlay.mp4")) == len(files(output / "exam_mask")) == 6


def test_without_overlays(folder, output):
    segment(folder, output, overlay=False)
    assert files(output) == {"exam_mask", "exam_frames.csv", "exam_seg.json"}


def test_no_video_of_different_sizes(folder, tmp_path, output):
    write_video(tmp_path / "a.mp4", scene(2))
    with pytest.raises(InputError, match=r"exam: holds pictures of different sizes, .* pass --mask_format png"):
        segment(tmp_path, output, mask_format="video")
    assert not output.exists()


def test_a_video_of_pictures_that_can_all_be_read_or_not(folder, tmp_path, output):
    """One size, and no size at all, are no different sizes."""
    for path in folder.iterdir():
        path.write_text("no picture", encoding="utf-8")
    for index, picture in enumerate(scene(3)):
        write_picture(tmp_path / "one" / f"{index}.png", picture)
    clips = segment(tmp_path, output, mask_format="video")
    assert files(output) == {"one_mask.mkv", "one_overlay.mp4", "one_frames.csv", "one_seg.json"}
    with pytest.raises(InputError, match="10 of 13 pictures could not be read"):
        clips.finish()


def test_sizes_that_differ_only_when_it_comes_to_them(folder, output, monkeypatch):
    """Somebody put another picture there meanwhile."""
    monkeypatch.setattr(StillPictures, "sizes_differ", False)
    with pytest.raises(InputError, match="exam: holds pictures of different sizes"):
        segment(folder, output, mask_format="video")
    assert not output.exists()


# ----------------------------------------------------------------------------------------------------- a single picture


@pytest.mark.parametrize("index", [0, 6])
def test_a_single_picture(tmp_path, output, index):
    picture = scene(7)[index]
    segment(write_picture(tmp_path / "one.png", picture), output)
    assert files(output) == {"one_mask.png", "one_overlay.png", "one_frames.csv", "one_seg.json"}
    np.testing.assert_array_equal(read(output / "one_mask.png"), mask_of(picture))
    (row,) = rows(output / "one_frames.csv")
    assert (row["name"], row["present"]) == ("one", str(int(index != 6)))
    origin = json.loads((output / "one_seg.json").read_text(encoding="utf-8"))
    assert origin["input"]["file"] == str(tmp_path / "one.png") and len(origin["input"]["sha256"]) == 64


# ---------------------------------------------------------------------------------------------- outputs of earlier runs


@pytest.mark.parametrize("end", ["mask.png", "mask", "mask.mkv", "overlay.png", "overlay", "overlay.mp4", "seg.json"])
def test_existing_outputs_are_refused_first(tmp_path, output, end):
    output.mkdir()
    (output / f"one_{end}").touch()
    with pytest.raises(InputError, match=rf"one_{end}: exists; pass another --output_dir, or --overwrite true"):
        segment(write_picture(tmp_path / "one.png", scene(1)[0]), output)
    assert files(output) == {f"one_{end}"}


def test_nothing_stays_of_an_earlier_run(folder, output):
    """Pictures of frames that are no more, and the other form of the overlay; what is not ours stays."""
    segment(folder, output)
    (output / "exam_mask" / "notes.txt").touch()
    for name in ("f3.png", "f4.png", "f5.png", "f9.png"):
        (folder / name).unlink()
    segment(folder, output, overwrite=True)
    assert files(output) == {"exam_mask", "exam_overlay.mp4", "exam_frames.csv", "exam_seg.json"}
    assert files(output / "exam_mask") == {*files(folder), "notes.txt"}
    write_picture(folder / "f3.png", scene(1, OTHER)[0])
    segment(folder, output, overwrite=True)
    assert files(output) == {"exam_mask", "exam_overlay", "exam_frames.csv", "exam_seg.json"}
    assert files(output / "exam_overlay") == files(folder)


def test_a_single_picture_is_overwritten(tmp_path, output):
    path = tmp_path / "one.png"
    for picture in scene(2):
        segment(write_picture(path, picture), output, overwrite=True)
        np.testing.assert_array_equal(read(output / "one_mask.png"), mask_of(picture))
    assert len(files(output)) == 4


def test_an_earlier_run_stays_until_the_new_one_begins_to_write(folder, tmp_path, output):
    """The first folder has four clips of up to three pictures; the fifth, which is the second folder's, fails."""
    earlier = files(folder) - {"f5.png"}
    for name in "ab":
        shutil.copytree(folder, tmp_path / "in" / name)
    segment(tmp_path / "in", output)
    for name in "ab":
        (tmp_path / "in" / name / "f0.png").unlink()
    with pytest.raises(RuntimeError, match="out of memory"):
        segment(tmp_path / "in", output, 3, BrightIsTissue(5, RuntimeError("out of memory")), overwrite=True)
    for kind in ("mask", "overlay"):
        assert files(output / f"a_{kind}") == earlier - {"f0.png"} and files(output / f"b_{kind}") == earlier


def test_an_input_is_not_overwritten(folder, tmp_path):
    """The masks of an earlier run lie among the inputs of the next."""
    shutil.copytree(folder, tmp_path / "in" / "exam")
    segment(tmp_path / "in", tmp_path / "in", overlay=False)
    before = files(tmp_path / "in" / "exam_mask")
    with pytest.raises(InputError, match=r"exam_mask: is an input and would be overwritten; pass another --output_dir"):
        segment(tmp_path / "in", tmp_path / "in", overwrite=True)
    assert files(tmp_path / "in" / "exam_mask") == before


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
def test_a_run_that_fails_leaves_what_it_did(folder, output, error):
    """Clips of up to two: f0 f1, f2, f3 f4 (f5 is damaged), and the fourth, f6 f7, fails."""
    with pytest.raises(type(error)):
        segment(folder, output, 2, BrightIsTissue(4, error))
    done = ["f0", "f1", "f2", "f3", "f4"]
    assert [row["name"] for row in rows(output / "exam_frames.csv")] == done
    assert files(output / "exam_mask") == files(output / "exam_overlay") == {f"{name}.png" for name in done}
    for name in done:
        np.testing.assert_array_equal(read(output / "exam_mask" / f"{name}.png"), mask_of(read(folder / f"{name}.png")))
    assert json.loads((output / "exam_seg.json").read_text(encoding="utf-8"))["frames"] == 5

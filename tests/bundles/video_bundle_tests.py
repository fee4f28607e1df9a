"""What every bundle for endoscopic video has to pass besides what all bundles have to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from common.data.provenance import sha256_of
from common.data.video import open_source
from common.errors import InputError
from tests.bad_videos import BAD_VIDEOS
from tests.bundles.bundle_test_base import TRACE, BundleTests, Mistake, files_of, read_csv, read_json, the_line
from tests.bundles.runs import Finished, Launcher, run, words
from tests.common.data.video.dataset_files import write_picture
from tests.common.data.video.dataset_files import write_video as write_lossless_video
from tests.common.handlers.video_runs import GRID, LEVEL, BrightIsNerve, frames_of, scene
from tests.video_files import write_video

TIMES = (0, 0.04, 0.1, 0.5, 0.52, 0.901, 1.3)  # seconds, of a video with a variable frame rate
# The good ones of `videos`, by the name under which inference writes.
GOOD = {"variable": "variable.mp4", "sub_lossless": "sub/lossless.mkv", "exam": "exam", "one": "one", "kinds": "kinds"}


class BrightFrames(BrightIsNerve):
    """Stands for a trained network over clips (B, T, 3, H, W) or frames (B, 3, H, W): what is bright is nerve."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if x.ndim == 5 else super().forward(x[:, None])[:, 0]


def mask_of(picture: np.ndarray) -> np.ndarray:
    """The mask (H, W), 0 and 255, that it gives of a picture seen on ``GRID``."""
    pixels = torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None] / 255
    logits = BrightFrames()(F.interpolate(pixels, GRID, mode="bilinear", align_corners=False))
    full = F.interpolate(logits, picture.shape[:2], mode="bilinear", align_corners=False)
    return np.where(full[0, 0].numpy() >= 0, 255, 0).astype(np.uint8)


def write_sequences(folder: Path, sequences: Mapping[str, tuple[str, int, tuple[int, int]]]) -> Path:
    """Write sequences of a part, a length and a size: a bright patch in noise, and masks of it."""
    noise = np.random.default_rng(0)
    for number, (name, (_, length, size)) in enumerate(sequences.items()):
        for index, picture in enumerate(scene(number + length, size)[number:]):
            noisy = np.clip(picture + noise.normal(0, 9, picture.shape), 0, 255).astype(np.uint8)
            write_picture(folder / name / "frames" / f"{index:03d}.png", noisy)
            mask = np.where(picture[..., 0] > 255 * LEVEL, 255, 0).astype(np.uint8)
            write_picture(folder / name / "masks" / f"{index:03d}.png", mask)
    rows = [{"id": name, "part": part} for name, (part, *_) in sequences.items()]
    (folder / "index.json").write_text(json.dumps({"sequences": rows}), encoding="utf-8")
    return folder


def masks_in(output: Path, name: str) -> list[np.ndarray]:
    """The masks (H, W) that were written for one video or folder of frames, in time order."""
    video = output / f"{name}_mask.mkv"
    return [frame.image[..., 0] for frame in frames_of(video if video.is_file() else output / f"{name}_mask")]


def readable_frames(path: Path, still: bool = False) -> list[np.ndarray]:
    """The frames of a video up to where it breaks off, or all of a folder that can be read."""
    frames = []
    with open_source(path, still=still) as source:
        try:
            frames.extend(frame.image for frame in source)
        except InputError:
            pass
    return frames


class VideoBundleTests(BundleTests):
    """The bundle segments frames of video, one structure, and ``bright`` (below) stands for its trained network."""

    segmentation = "_mask"
    train_transforms = ("train#deterministic_transforms", "train#last_transforms")
    # Part, number of frames and size of each sequence of `dataset`.
    sequences: Mapping[str, tuple[str, int, tuple[int, int]]]
    # Whether the network looks at frames one by one, so that a broken picture leaves the others of its folder alone.
    still = False
    mistakes: Mapping[str, Mistake] = {
        "input broken": Mistake("inference", {"input": "{broken}"}, ["{broken}", "is cut off after"]),
        "unknown form of masks": Mistake("inference", {"mask_format": "gif"}, ["--mask_format gif", "video or png"]),
        "output exists": Mistake(
            "inference", {"output_dir": "{written}"}, ["{written}/one_frames.csv", "exists", "--overwrite true"]
        ),
    }

    # ------------------------------------------------------------------------------------------- what the base asks for

    @pytest.fixture(scope="class")
    def dataset(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A few small sequences of video, their parts stated."""
        return write_sequences(tmp_path_factory.mktemp("videos"), self.sequences)

    @pytest.fixture(scope="class")
    def example(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A folder of a single frame."""
        folder = tmp_path_factory.mktemp("example") / "one"
        write_picture(folder / "7.png", scene(1, (36, 50))[0])
        return folder

    @pytest.fixture(scope="class")
    def own_places(self, dataset: Path, example: Path, shared: Path) -> dict[str, object]:
        return self.places_for_videos(shared / "own_places", example)

    def places_for_videos(self, folder: Path, example: Path) -> dict[str, object]:
        """Write what the mistakes here name into a folder."""
        (folder / "written").mkdir(parents=True)
        (folder / "written" / "one_frames.csv").write_text("of an earlier run", encoding="utf-8")
        return {"written": folder / "written", "broken": BAD_VIDEOS["cut off"].make(folder), "frame": example / "7.png"}

    def cases(self, dataset: Path) -> list[str]:
        return list(self.sequences)

    def host_items(self, dataset: Path) -> list[dict[str, Any]]:
        """Single frames, with what an application knows of them."""
        return [
            {"image": str(dataset / name / "frames" / "001.png"), "label": str(dataset / name / "masks" / "001.png")}
            for name in "abcd"
        ]

    # ------------------------------------------------------------------------------------------------------- inference

    @pytest.fixture(scope="class")
    def videos(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A video or folder of frames of each kind that inference has to take, and each kind of bad one."""
        folder = tmp_path_factory.mktemp("videos")
        write_video(folder / "variable.mp4", scene(7), times=TIMES)
        write_lossless_video(folder / "sub" / "lossless.mkv", scene(4, (44, 60)), rate=10)
        for index, picture in enumerate(scene(4, (45, 61))):
            write_picture(folder / "exam" / f"f{index + 8}.png", picture)  # f8, f9, f10: in the order of the numbers
        write_picture(folder / "one" / "7.png", scene(1)[0])
        grey = scene(1)[0][..., 0]
        alpha = np.random.default_rng(0).integers(0, 256, grey.shape, dtype=np.uint8)
        for kind, picture in {
            "rgb": np.stack([grey] * 3, axis=-1),
            "grey": grey,
            "rgba": np.stack([grey, grey, grey, alpha], axis=-1),
            "deep": grey.astype(np.uint16) * 257,
        }.items():
            write_picture(folder / "kinds" / f"{kind}.png", picture)
        for bad in BAD_VIDEOS.values():
            bad.make(folder)
        return folder

    @pytest.fixture(scope="class")
    def segmented(self, released: Path, videos: Path, launch: Launcher, shared: Path) -> tuple[Path, Finished]:
        """What an inference run on ``videos`` wrote and said; started outside of everything."""
        output = shared / "segmented"
        ids = {**self.tiny, "bundle_root": released, "input": videos, "output_dir": output}
        config = files_of(released, "inference")[0]
        return output, launch("run", "--config_file", config, *words(ids), cwd=released.parent)

    @pytest.fixture(scope="class")
    def bright(self, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
        """Ids that put a network that sees what is bright, on ``GRID``, in the place of the bundle's."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    def found(self, bright: dict[str, Any], videos: Path, shared: Path) -> Path:
        """What inference writes on ``videos`` with a network whose masks are known."""
        with pytest.raises(RuntimeError) as error:
            run(self.root, "inference", **bright, input=str(videos), output_dir=str(shared / "found"))
        assert self.count_of_bad_videos in str(error.getrepr())
        return shared / "found"

    # Ids of a training that changes no weights.
    learn_nothing: Mapping[str, Any] = {"lr": 0.0}

    @property
    def count_of_bad_videos(self) -> str:
        count = len(BAD_VIDEOS) + len(GOOD)
        if self.still:
            return f"{len(BAD_VIDEOS) - 1} of {count} videos could not be read to the end, 1 of 14 pictures could not"
        return f"{len(BAD_VIDEOS)} of {count} videos could not be read to the end "

    def test_bad_videos_are_counted_and_the_rest_is_done(self, segmented, videos):
        output, finished = segmented
        line = the_line(finished)
        assert finished.status == 1
        assert line.startswith(f"error: {videos}: {self.count_of_bad_videos}")
        assert line.endswith("; the rest is done")
        told = finished.out.splitlines()
        for bad in BAD_VIDEOS.values():
            assert len([word for word in told if f" {videos / bad.name}" in word and bad.problem in word]) == 1, bad
        assert TRACE not in finished.out
        partly = [Path(bad.name).stem for bad in BAD_VIDEOS.values() if bad.readable]
        written = {path.name.removesuffix("_frames.csv") for path in output.glob("*_frames.csv")}
        assert written == {*GOOD, *partly}
        assert not [path for path in output.rglob("*") if ".part" in path.name or ".tmp" in path.name]

    def test_masks_have_their_sources_frames(self, found, videos):
        """All of them, each of its size, at its time and under its name; and they are what the network found."""
        for name, file in GOOD.items():
            sources = frames_of(videos / file)
            is_video = (videos / file).is_file()
            masks = frames_of(found / (f"{name}_mask.mkv" if is_video else f"{name}_mask"))
            assert [mask.name for mask in masks] == [frame.name for frame in sources], name
            if is_video:
                np.testing.assert_allclose([m.time for m in masks], [f.time for f in sources], atol=1e-3, err_msg=name)
            for mask, frame in zip(masks, sources, strict=True):
                np.testing.assert_array_equal(mask.image[..., 0], mask_of(frame.image), f"{name} {frame.name}")
        np.testing.assert_allclose([frame.time for frame in frames_of(videos / "variable.mp4")], TIMES, atol=1e-3)
        assert 10 < np.mean(masks_in(found, "variable")) < 128

    def test_grey_transparent_and_16_bit_frames(self, found):
        masks = masks_in(found, "kinds")
        assert len(masks) == 4 and masks[0].any()
        assert all(np.array_equal(mask, masks[0]) for mask in masks)

    @pytest.mark.parametrize("bad", [bad for bad in BAD_VIDEOS.values() if bad.readable], ids=lambda bad: bad.name)
    def test_what_breaks_off_is_segmented_so_far(self, bad, found, videos):
        pictures = readable_frames(videos / bad.name, self.still)
        name = Path(bad.name).stem
        masks = masks_in(found, name)
        assert len(masks) == len(pictures) > 2
        for mask, picture in zip(masks, pictures, strict=True):
            np.testing.assert_array_equal(mask, mask_of(picture))
        assert len(read_csv(found / f"{name}_frames.csv")) == len(pictures)

    def test_tables_overlays_and_provenance(self, segmented, released, videos):
        output, _ = segmented
        for name, file in GOOD.items():
            sources, masks = frames_of(videos / file), masks_in(output, name)
            rows = read_csv(output / f"{name}_frames.csv")
            assert [row["name"] for row in rows] == [frame.name for frame in sources], name
            assert [int(row["frame"]) for row in rows] == list(range(len(sources)))
            assert [int(row["area_px"]) for row in rows] == [np.count_nonzero(mask) for mask in masks]
            for row, frame, mask in zip(rows, sources, masks, strict=True):
                assert mask.shape == frame.image.shape[:2] and set(np.unique(mask)) <= {0, 255}
                assert float(row["time_s"]) == pytest.approx(frame.time, abs=1e-4)
                assert float(row["area_share"]) == pytest.approx(np.mean(mask > 0), abs=1e-5)
                assert 0 < float(row["mean_probability"]) < 1
                assert row["mask_probability"] == "" or 0.5 <= float(row["mask_probability"]) <= 1
                assert all(float(row[step]) >= 0 for step in row if step.startswith("ms_"))
            overlay = frames_of(output / f"{name}_overlay.mp4")
            even = tuple(side + side % 2 for side in sources[0].image.shape[:2])
            assert [picture.image.shape for picture in overlay] == [(*even, 3)] * len(sources), name
            np.testing.assert_allclose(
                [picture.time for picture in overlay], [frame.time for frame in sources], atol=1e-3
            )
            origin = read_json(output / f"{name}_seg.json")
            assert origin["bundle"] == self.name
            assert origin["weights"]["sha256"] == sha256_of(released / "models" / "model.pt")
            assert origin["frames"] == len(sources)
            assert origin["libraries"]["torch"] == torch.__version__
            files = [videos / file] if (videos / file).is_file() else list((videos / file).iterdir())
            if len(files) == 1:
                assert origin["input"]["sha256"] == sha256_of(files[0])
            else:
                assert origin["input"]["sha256_of_files"] == {path.name: sha256_of(path) for path in files}

    def test_fine_tuning_begins_with_the_given_weights(self, trained, dataset, scratch):
        """Where nothing is learned, they are what comes out, of every stage."""
        start = trained / "model.pt"
        self.train(dataset, scratch, max_epochs=1, init_checkpoint=str(start), **self.learn_nothing)
        before, after = (torch.load(path, weights_only=True) for path in (start, scratch / "model_last.pt"))
        statistics = ("running_mean", "running_var", "num_batches_tracked")
        parameters = [name for name in before if not name.endswith(statistics)]
        assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in parameters)
        (row,) = read_csv(scratch / "history.csv")
        assert float(row["loss"]) < float(read_csv(trained / "history.csv")[0]["loss"])

    def test_flips_leave_the_masks_where_they_are(self, bright, example, tmp_path):
        run(self.root, "inference", **bright, input=str(example), output_dir=str(tmp_path), flips="true")
        (mask,), (frame,) = masks_in(tmp_path, "one"), frames_of(example)
        assert 0 < np.count_nonzero(mask != mask[:, ::-1])
        np.testing.assert_array_equal(mask, mask_of(frame.image))
        assert read_json(tmp_path / "one_seg.json")["settings"]["flips"] is True

    def test_outputs_are_overwritten_only_on_demand(self, bright, example, tmp_path):
        ids = {**bright, "input": str(example), "output_dir": str(tmp_path)}
        run(self.root, "inference", **ids)
        before = (tmp_path / "one_seg.json").stat().st_mtime_ns
        with pytest.raises(RuntimeError) as error:
            run(self.root, "inference", **ids)
        assert "exists" in str(error.getrepr()) and "--overwrite true" in str(error.getrepr())
        assert (tmp_path / "one_seg.json").stat().st_mtime_ns == before
        run(self.root, "inference", **ids, overwrite="true", overlay="false")
        assert (tmp_path / "one_seg.json").stat().st_mtime_ns > before

    def test_names_that_the_command_line_could_misread(self, released, launch, tmp_path):
        name = "é 脊柱 'a' $x @y %z #1"
        write_lossless_video(tmp_path / name / f"{name}.mkv", scene(2))
        ids = {**self.tiny, "bundle_root": released, "input": tmp_path / name, "output_dir": tmp_path / "out"}
        finished = launch("run", "--config_file", files_of(released, "inference")[0], *words(ids), cwd=tmp_path)
        assert finished.status == 0 and not finished.err, finished.err
        assert len(masks_in(tmp_path / "out", name)) == 2

    def test_a_full_disk_at_inference(self, released, launch, example, scratch):
        ids = {**self.tiny, "bundle_root": released, "input": example, "output_dir": scratch / "out"}
        command = ["run", "--config_file", files_of(released, "inference")[0]]
        line = the_line(launch(*command, *words(ids), cwd=scratch, largest_file=1_500))
        assert f"{scratch}/out/one_" in line and "cannot be written (File too large); free space" in line
        assert not [path for path in (scratch / "out").rglob("*") if path.stat().st_size == 0 or ".tmp" in path.name]

    # ---------------------------------------------------------------------------------------------- host applications

    def test_a_host_segments_a_frame(self, bright, tmp_path):
        picture = scene(1, (45, 61))[0]
        file = write_picture(tmp_path / "frame.png", picture)
        ids = {key: value for key, value in bright.items() if key not in ("network_def", "checkpoint")}
        pred = self.host_inference(self.root, file, bright["network_def"], checkpoint=bright["checkpoint"], **ids)[
            "pred"
        ]
        assert pred.dtype == torch.uint8 and tuple(pred.shape) == (61, 45)  # columns first, as hosts write pictures
        np.testing.assert_array_equal(255 * pred.T.numpy(), mask_of(picture))

    def test_a_host_gets_what_the_command_line_writes(self, released, segmented, videos):
        pred = self.host_inference(released, videos / "one" / "7.png", None, **self.tiny)["pred"]
        (written,) = masks_in(segmented[0], "one")
        np.testing.assert_array_equal(255 * pred.T.numpy(), written)
        assert written.any()

"""What every bundle for endoscopic video has to pass besides what all bundles have to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ignite.engine import Events
from PIL import Image

from common.data.provenance import sha256_of
from common.data.video import open_source
from common.errors import InputError
from tests.bad_videos import BAD_VIDEOS
from tests.bundles.bundle_test_base import TRACE, BundleTests, Mistake, files_of, read_csv, read_json, the_line
from tests.bundles.runs import Finished, Launcher, run, run_in_ranks, undone, words, workflow
from tests.common.data.video.dataset_files import write_picture
from tests.common.data.video.dataset_files import write_video as write_lossless_video
from tests.common.handlers.video_runs import GRID, LEVEL, SIZE, BrightIsNerve, frames_of, probabilities_of, scene
from tests.video_files import write_video

# Part and number of frames of each sequence, and their size: clips of 3 are shifted back, or just fit.
SEQUENCES = {
    "a": ("train", 3, SIZE),
    "b": ("train", 4, (40, 56)),
    "c": ("train", 3, SIZE),
    "d": ("validation", 3, (40, 56)),
    "e": ("test", 5, SIZE),
}
TIMES = (0, 0.04, 0.1, 0.5, 0.52, 0.901, 1.3)  # seconds, of a video with a variable frame rate
# The good ones of `videos`, by the name under which inference writes.
GOOD = {"variable": "variable.mp4", "sub_lossless": "sub/lossless.mkv", "exam": "exam", "one": "one", "kinds": "kinds"}
# What is wrong with a data set, by the path of the file that is taken away.
UNPAIRED = {"no mask": "b/masks/002.png", "no frame": "b/frames/002.png"}


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


def write_data_set(folder: Path) -> Path:
    """Write ``SEQUENCES``: a bright patch in noise, and masks of it."""
    noise = np.random.default_rng(0)
    for number, (name, (_, length, size)) in enumerate(SEQUENCES.items()):
        for index, picture in enumerate(scene(number + length, size)[number:]):
            noisy = np.clip(picture + noise.normal(0, 9, picture.shape), 0, 255).astype(np.uint8)
            write_picture(folder / name / "frames" / f"{index:03d}.png", noisy)
            mask = np.where(picture[..., 0] > 255 * LEVEL, 255, 0).astype(np.uint8)
            write_picture(folder / name / "masks" / f"{index:03d}.png", mask)
    rows = [{"id": name, "part": part} for name, (part, *_) in SEQUENCES.items()]
    (folder / "index.json").write_text(json.dumps({"sequences": rows}), encoding="utf-8")
    return folder


def masks_in(output: Path, name: str) -> list[np.ndarray]:
    """The masks (H, W) that were written for one video or folder of frames, in time order."""
    video = output / f"{name}_mask.mkv"
    return [frame.image[..., 0] for frame in frames_of(video if video.is_file() else output / f"{name}_mask")]


def readable_frames(path: Path) -> list[np.ndarray]:
    """The frames of a video up to where it breaks off."""
    frames = []
    with open_source(path) as source:
        try:
            frames.extend(frame.image for frame in source)
        except InputError:
            pass
    return frames


class VideoBundleTests(BundleTests):
    """The bundle's network takes clips of three frames of the size in ``tiny``, and has one output channel."""

    tiny: Mapping[str, Any] = {"spatial_size": [32, 48], "frames": 3, "precision": "fp32"}
    split: Mapping[str, Any] = {"training_starts": "all"}
    training: Mapping[str, Any] = {**split, "batch_size": 2, "lr": 0.02, "crop_pixels": 2}
    other_setting = ("spatial_size", [32, 64])
    batch_shape = (2, 3, 3, 32, 48)
    segmentation = "_mask"
    table = "sequences.csv"
    metrics = ("val_mean_dice", "val_max_dice")
    train_transforms = ("train#deterministic_transforms", "train#last_transforms")
    mistakes: Mapping[str, Mistake] = {
        "empty data": Mistake("train", {"dataset_dir": "{empty}"}, ["{empty}", "holds no video sequences", "README"]),
        "too few numbers": Mistake(
            "inference", {"spatial_size": "[256]"}, ["--spatial_size [256]", "2 whole numbers", "'["], logged=False
        ),
        "a frame without its mask": Mistake("train", {"dataset_dir": "{no mask}"}, ["b/frames/002.png", "has no mask"]),
        "a mask without its frame": Mistake(
            "train", {"dataset_dir": "{no frame}"}, ["b/masks/002.png", "has no frame"]
        ),
        "a mask of another size": Mistake(
            "train", {"dataset_dir": "{strange}"}, ["b/masks/001.png", "is 20 x 20, its frame", "on its own frame"]
        ),
        "the same in a worker": Mistake(
            "train", {"dataset_dir": "{strange}", "num_workers": 1}, ["b/masks/001.png", "is 20 x 20, its frame"]
        ),
        "a mask in 0 and 1": Mistake(
            "train", {"dataset_dir": "{ones}"}, ["b/masks/001.png", "write foreground as 255"]
        ),
        "single images for clips": Mistake("train", {"images_dir": "{empty}"}, ["{empty}", "--frames 1"]),
        "unknown training clips": Mistake("train", {"training_starts": "few"}, ["training_starts=few", "protocol"]),
        "too short for clips": Mistake(
            "train", {"training_starts": "protocol"}, ["no training sequence of 5 frames", "--training_starts all"]
        ),
        "input broken": Mistake("inference", {"input": "{broken}"}, ["{broken}", "is cut off after"]),
        "a single frame": Mistake("inference", {"input": "{frame}"}, ["{frame}", "pass the folder"]),
        "unknown form of masks": Mistake("inference", {"mask_format": "gif"}, ["--mask_format gif", "video or png"]),
        "output exists": Mistake(
            "inference", {"output_dir": "{written}"}, ["{written}/one_frames.csv", "exists", "--overwrite true"]
        ),
    }

    # ------------------------------------------------------------------------------------------- what the base asks for

    @pytest.fixture(scope="class")
    def dataset(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Five small sequences of video, their parts stated."""
        return write_data_set(tmp_path_factory.mktemp("videos"))

    @pytest.fixture(scope="class")
    def example(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A folder of a single frame."""
        folder = tmp_path_factory.mktemp("example") / "one"
        write_picture(folder / "7.png", scene(1, (36, 50))[0])
        return folder

    @pytest.fixture(scope="class")
    def own_places(self, dataset: Path, example: Path, shared: Path) -> dict[str, object]:
        folder = shared / "own_places"
        for name, file in UNPAIRED.items():
            (shutil.copytree(dataset, folder / name) / file).unlink()
        for name, mask in (("strange", np.zeros((20, 20), np.uint8)), ("ones", np.ones((40, 56), np.uint8))):
            write_picture(shutil.copytree(dataset, folder / name) / "b" / "masks" / "001.png", mask)
        (folder / "written").mkdir()
        (folder / "written" / "one_frames.csv").write_text("of an earlier run")
        named: dict[str, object] = {name: folder / name for name in (*UNPAIRED, "strange", "ones", "written")}
        return named | {"broken": BAD_VIDEOS["cut off"].make(folder), "frame": example / "7.png"}

    def cases(self, dataset: Path) -> list[str]:
        return list(SEQUENCES)

    def labelled_item(self, dataset: Path) -> dict[str, Any]:
        places = {"image": dataset / "a" / "frames", "label": dataset / "a" / "masks"}
        clip = {key: [str(place / f"{index:03d}.png") for index in range(3)] for key, place in places.items()}
        return clip | {"frames": [0, 1, 2], "keep": [True] * 3}

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
        """Ids that put :class:`BrightFrames`, which has no weights, in the place of the network."""
        checkpoint = tmp_path_factory.mktemp("bright") / "model.pt"
        torch.save({}, checkpoint)
        ids = {"network_def": BrightFrames(), "checkpoint": str(checkpoint), "network_arguments": {}}
        return self.tiny | ids | {"normalize": [[0, 0, 0], [1, 1, 1]], "spatial_size": list(GRID)}

    @pytest.fixture(scope="class")
    def found(self, bright: dict[str, Any], videos: Path, shared: Path) -> Path:
        """What inference writes on ``videos`` with a network whose masks are known."""
        with pytest.raises(RuntimeError) as error:
            run(self.root, "inference", **bright, input=str(videos), output_dir=str(shared / "found"))
        assert f"{len(BAD_VIDEOS)} of {len(BAD_VIDEOS) + len(GOOD)} videos" in str(error.getrepr())
        return shared / "found"

    def test_bad_videos_are_counted_and_the_rest_is_done(self, segmented, videos):
        output, finished = segmented
        line = the_line(finished)
        count = len(BAD_VIDEOS) + len(GOOD)
        assert finished.status == 1
        assert line.startswith(f"error: {videos}: {len(BAD_VIDEOS)} of {count} videos could not be read to the end ")
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
        pictures = readable_frames(videos / bad.name)
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
            assert origin["settings"]["frames"] == len(sources)
            assert origin["libraries"]["torch"] == torch.__version__
            files = [videos / file] if (videos / file).is_file() else list((videos / file).iterdir())
            if len(files) == 1:
                assert origin["input"]["sha256"] == sha256_of(files[0])
            else:
                assert origin["input"]["sha256_of_files"] == {path.name: sha256_of(path) for path in files}

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

    # ------------------------------------------------------------------------------------------------------ evaluation

    @pytest.fixture(scope="class")
    def evaluated(self, bright: dict[str, Any], dataset: Path, shared: Path) -> Path:
        """The evaluation of all sequences with a network whose probabilities are known."""
        output = shared / "evaluated"
        run(self.root, "evaluate", part="all", dataset_dir=str(dataset), output_dir=str(output), **bright)
        return output

    def brute_force(self, dataset: Path, name: str) -> tuple[np.ndarray, float, float, float, float]:
        """Scores of one sequence by the protocol's definition, threshold after threshold.

        Returns:
            Curves of Dice, IoU, specificity and sensitivity (4, 256), MAE, Dice at 0.5, and flicker of what is
            predicted and of what is drawn.
        """
        curves, errors, dice, predicted, drawn = [], [], [], [], []
        frames, masks = (frames_of(dataset / name / folder) for folder in ("frames", "masks"))
        for frame, mask in zip(frames, masks, strict=True):
            g = mask.image[..., 0] > 128
            p = probabilities_of(frame.image)
            predicted.append(p[0, 0].numpy() >= 0.5)
            drawn.append(F.interpolate(torch.from_numpy(g)[None, None].float(), GRID)[0, 0].numpy() > 0)
            smooth = F.interpolate(p, g.shape, mode="bilinear", align_corners=False)[0, 0].numpy() >= 0.5
            if g.any():
                dice.append((frame.index, 2 * (smooth & g).sum() / (smooth.sum() + g.sum())))
            levels = F.interpolate((p * 255).to(torch.uint8).float(), g.shape, mode="bilinear", align_corners=False)
            v = (levels + 0.5).to(torch.uint8)[0, 0].numpy().astype(int)
            above, span = v - v.min(), v.max() - v.min()
            curve = np.zeros((4, 256))
            for k in range(256):
                positive = 255 * above >= k * span
                tp, fp = (positive & g).sum(), (positive & ~g).sum()
                fn, tn = (~positive & g).sum(), (~positive & ~g).sum()
                if tp:
                    curve[:, k] = 2 * tp / (2 * tp + fp + fn), tp / (tp + fp + fn), tn / (tn + fp), tp / (tp + fn)
            curves.append(curve)
            errors.append(np.abs(above / span - g).mean())
        inner = [score for index, score in dice if 0 < index < len(frames) - 1]
        changes = [
            float(np.mean([1 - (a & b).sum() / (a | b).sum() if (a | b).any() else 0 for a, b in pairwise(some)]))
            for some in (predicted, drawn)
        ]
        return np.mean(curves[1:-1], axis=0), np.mean(errors[1:-1]), np.mean(inner), *changes

    @staticmethod
    def scores_of(curves: np.ndarray) -> dict[str, float]:
        dice, iou, specificity, sensitivity = curves
        return {
            "maxDice": dice.max(), "maxIoU": iou.max(), "meanSpe": specificity.mean(), "maxSpe": specificity.max(),
            "meanSen": sensitivity.mean(),
        }  # fmt: skip

    def test_scores_are_those_of_the_protocol(self, evaluated, dataset):
        rows = {row["sequence"]: row for row in read_csv(evaluated / "sequences.csv")}
        assert rows.keys() == SEQUENCES.keys()
        parts = {name: self.brute_force(dataset, name) for name in SEQUENCES}
        for name, (curves, mae, dice, flicker, reference_flicker) in parts.items():
            row, length = rows[name], SEQUENCES[name][1]
            assert (int(row["frames"]), int(row["scored_frames"])) == (length, length - 2)
            wanted = self.scores_of(curves) | {"MAE": mae, "Dice": dice}
            wanted |= {"flicker": flicker, "reference_flicker": reference_flicker}
            for score, value in wanted.items():
                assert float(row[score]) == pytest.approx(value, abs=1e-4), f"{name}: {score}"
        summary = read_json(evaluated / "summary.json")
        wanted = self.scores_of(np.mean([curves for curves, *_ in parts.values()], axis=0))
        columns = ("MAE", "Dice", "flicker", "reference_flicker")
        wanted |= {name: np.mean([means[at] for _, *means in parts.values()]) for at, name in enumerate(columns)}
        for score, value in wanted.items():
            assert summary[score] == pytest.approx(value, abs=1e-5), score
        assert 0.5 < summary["maxDice"] < 1 and summary["flicker"] > 0
        assert (summary["sequences"], summary["frames"]) == (5, sum(length - 2 for _, length, _ in SEQUENCES.values()))

    @pytest.mark.parametrize("part", ["validation", "test", "heldout", "all"])
    def test_parts(self, part, bright, dataset, tmp_path):
        run(self.root, "evaluate", part=part, dataset_dir=str(dataset), output_dir=str(tmp_path), **bright)
        parts = {"heldout": ("validation", "test"), "all": ("train", "validation", "test")}.get(part, (part,))
        wanted = {name for name, (where, *_) in SEQUENCES.items() if where in parts}
        assert {row["sequence"] for row in read_csv(tmp_path / "sequences.csv")} == wanted

    def test_evaluation_and_inference_give_the_same_masks(self, released, dataset, tmp_path):
        ids = {**self.tiny, "dataset_dir": str(dataset)}
        masks: dict[tuple[str, int], np.ndarray] = {}

        def keep(engine: Any) -> None:
            for item, output in zip(engine.state.batch, engine.state.output, strict=True):
                for at, (frame, counts) in enumerate(zip(item["frames"], item["keep"], strict=True)):
                    if counts:
                        masks[item["sequence"], int(frame)] = 255 * output["pred"][at].numpy()

        with undone():
            made = workflow(released, "evaluate", part="all", output_dir=str(tmp_path / "evaluated"), **ids)
            made.initialize()
            made.parser.get_parsed_content("validate#evaluator").add_event_handler(Events.ITERATION_COMPLETED, keep)
            made.run()
        run(released, "inference", output_dir=str(tmp_path / "inferred"), overlay="false", **ids)
        assert len(masks) == sum(length for _, length, _ in SEQUENCES.values())
        assert 0 < np.mean([np.mean(mask > 0) for mask in masks.values()]) < 1
        for (name, frame), mask in masks.items():
            with Image.open(tmp_path / "inferred" / f"{name}_mask" / f"{frame:03d}.png") as written:
                np.testing.assert_array_equal(np.asarray(written), mask, f"{name} {frame}")

    # ------------------------------------------------------------------------------------------------ several processes

    @pytest.mark.parametrize(("part", "clips"), [("heldout", 3), ("validation", 1)])
    def test_evaluation_in_two_processes_is_that_of_one(self, part, clips, dataset, trained, tmp_path):
        # an odd number of clips, and fewer than processes: nobody waits for the other, no clip comes twice
        with undone():
            made = workflow(self.root, "train", dataset_dir=str(dataset), **self.tiny, **self.split)
            made.parser.parse(reset=True)
            assert len(made.parser.get_parsed_content("cases").part(part)) == clips
        ids = {**self.tiny, "dataset_dir": str(dataset), "part": part, "checkpoint": str(trained / "model.pt")}
        run(self.root, "evaluate", **ids, output_dir=str(tmp_path / "one"))
        run_in_ranks(self.root, "evaluate", 2, **ids, output_dir=tmp_path / "two")
        assert (tmp_path / "one" / "sequences.csv").read_bytes() == (tmp_path / "two" / "sequences.csv").read_bytes()
        one, two = (read_json(tmp_path / name / "summary.json") for name in ("one", "two"))
        assert {**one, "provenance": None} == {**two, "provenance": None}

    # -------------------------------------------------------------------------------------------------------- training

    def test_the_split_is_written(self, trained, dataset):
        split = read_json(trained / "split.json")
        parts = {
            part: [name for name in SEQUENCES if SEQUENCES[name][0] == part] for part in ("train", "validation", "test")
        }
        assert {part: sorted({name[0] for name in split[part]}) for part in parts} == parts
        assert split["dataset_dir"] == str(dataset) and split["frames"] == 3

    def test_videos_with_videos_of_masks(self, dataset, bright, scratch):
        """A data set of files is scored as the same in folders of frames is, and a network learns from it."""
        videos = scratch / "data"
        for folder, name in ((folder, name) for folder in ("frames", "masks") for name in SEQUENCES):
            pictures = [frame.image for frame in frames_of(dataset / name / folder)]
            write_lossless_video(videos / folder.replace("frames", "videos") / f"{name}.mkv", pictures)
        shutil.copy(dataset / "index.json", videos)
        tables = []
        for folder in (dataset, videos):
            ids = {**bright, "dataset_dir": str(folder), "part": "heldout", "output_dir": str(scratch / "evaluated")}
            run(self.root, "evaluate", **ids)
            tables.append(read_csv(scratch / "evaluated" / "sequences.csv"))
        assert tables[0] == tables[1]
        losses = [
            read_csv(self.train(folder, scratch / f"run{number}", max_epochs=1) / "history.csv")[0]["loss"]
            for number, folder in enumerate((dataset, videos))
        ]
        assert losses[0] == losses[1]

    # ---------------------------------------------------------------------------------------------- host applications

    def test_a_host_segments_a_frame(self, bright, tmp_path):
        picture = scene(1, (45, 61))[0]
        file = write_picture(tmp_path / "frame.png", picture)
        ids = {key: value for key, value in bright.items() if key not in ("network_def", "checkpoint")}
        pred = self.host_inference(self.root, file, bright["network_def"], checkpoint=bright["checkpoint"], **ids)[
            "pred"
        ]
        assert pred.dtype == torch.uint8 and tuple(pred.shape) == (1, 45, 61)
        np.testing.assert_array_equal(255 * pred[0].numpy(), mask_of(picture))

    def test_a_host_gets_what_the_command_line_writes(self, released, segmented, videos):
        pred = self.host_inference(released, videos / "one" / "7.png", None, **self.tiny)["pred"]
        (written,) = masks_in(segmented[0], "one")
        np.testing.assert_array_equal(255 * pred[0].numpy(), written)
        assert written.any()

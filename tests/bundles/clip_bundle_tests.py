"""What every bundle whose network takes clips of endoscopic video has to pass."""

from __future__ import annotations

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

from common.handlers.frame_overlays import overlays_in
from tests.bundles.bundle_test_base import Mistake, read_csv, read_json
from tests.bundles.runs import content_of, run, run_in_ranks, undone, workflow
from tests.bundles.video_bundle_tests import BrightFrames, VideoBundleTests
from tests.common.data.video.dataset_files import write_picture
from tests.common.data.video.dataset_files import write_video as write_lossless_video
from tests.common.handlers.video_runs import GRID, SIZE, frames_of, probabilities_of

# Part and number of frames of each sequence, and their size: clips of 3 are shifted back, or just fit.
SEQUENCES = {
    "a": ("train", 3, SIZE),
    "b": ("train", 4, (40, 56)),
    "c": ("train", 3, SIZE),
    "d": ("validation", 3, (40, 56)),
    "e": ("test", 5, SIZE),
}
# What is wrong with a data set, by the path of the file that is taken away.
UNPAIRED = {"no mask": "b/masks/002.png", "no frame": "b/frames/002.png"}


class ClipBundleTests(VideoBundleTests):
    """The bundle's network takes clips of three frames of the size in ``tiny``, and has one output channel."""

    tiny: Mapping[str, Any] = {"spatial_size": [32, 48], "frames": 3, "precision": "fp32"}
    split: Mapping[str, Any] = {"training_starts": "all"}
    training: Mapping[str, Any] = {**split, "batch_size": 2, "lr": 0.02, "crop_pixels": 2}
    other_setting = ("spatial_size", [32, 64])
    batch_shape = (2, 3, 3, 32, 48)
    flips = (-1, "sigmoid", {})
    table = "sequences.csv"
    metrics = ("val_mean_dice", "val_max_dice")
    sequences = SEQUENCES
    mistakes: Mapping[str, Mistake] = VideoBundleTests.mistakes | {
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
        "a single frame": Mistake("inference", {"input": "{frame}"}, ["{frame}", "pass the folder"]),
    }

    # ------------------------------------------------------------------------------------------- what the base asks for

    @pytest.fixture(scope="class")
    def own_places(self, dataset: Path, example: Path, shared: Path) -> dict[str, object]:
        folder = shared / "own_places"
        for name, file in UNPAIRED.items():
            (shutil.copytree(dataset, folder / name) / file).unlink()
        for name, mask in (("strange", np.zeros((20, 20), np.uint8)), ("ones", np.ones((40, 56), np.uint8))):
            write_picture(shutil.copytree(dataset, folder / name) / "b" / "masks" / "001.png", mask)
        named: dict[str, object] = {name: folder / name for name in (*UNPAIRED, "strange", "ones")}
        return named | self.places_for_videos(folder, example)

    def labelled_item(self, dataset: Path) -> dict[str, Any]:
        places = {"image": dataset / "a" / "frames", "label": dataset / "a" / "masks"}
        clip = {key: [str(place / f"{index:03d}.png") for index in range(3)] for key, place in places.items()}
        return clip | {"frames": [0, 1, 2], "keep": [True] * 3}

    @pytest.fixture(scope="class")
    def bright(self, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
        """Ids that put :class:`BrightFrames`, which has no weights, in the place of the network."""
        checkpoint = tmp_path_factory.mktemp("bright") / "model.pt"
        torch.save({}, checkpoint)
        ids = {"network_def": BrightFrames(), "checkpoint": str(checkpoint), "network_arguments": {}}
        return self.tiny | ids | {"normalize": [[0, 0, 0], [1, 1, 1]], "spatial_size": list(GRID)}

    # ------------------------------------------------------------------------------------------------------ evaluation

    @pytest.fixture(scope="class")
    def evaluated(self, bright: dict[str, Any], dataset: Path, shared: Path) -> Path:
        """The evaluation of all sequences with a network whose probabilities are known."""
        output = shared / "evaluated"
        ids = {**bright, "dataset_dir": str(dataset), "overlays": "true"}
        run(self.root, "evaluate", part="all", output_dir=str(output), **ids)
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

    def test_what_an_evaluation_leaves(self, evaluated):
        names = {path.name for path in evaluated.iterdir()}
        assert names == {"curves.npz", "log.txt", "overlays", "sequences.csv", "summary.json"}
        pictures = overlays_in(evaluated)
        assert pictures.keys() == SEQUENCES.keys()
        for name, (_, _, (height, width)) in SEQUENCES.items():
            with Image.open(pictures[name]) as image:
                assert image.size == (320, round(320 * height / width))

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
        ids["overlays"] = "true"
        run(self.root, "evaluate", **ids, output_dir=str(tmp_path / "one"))
        run_in_ranks(self.root, "evaluate", 2, **ids, output_dir=tmp_path / "two")
        one, two = (content_of(tmp_path / name) for name in ("one", "two"))
        same = [name for name in one if name.endswith((".csv", ".npz", ".jpg"))]
        sequences = {"heldout": 2, "validation": 1}[part]  # a picture of each, a table and its curves
        assert one.keys() == two.keys() and len(same) == sequences + 2
        assert all(one[name] == two[name] for name in same)
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

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import monai
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from common.handlers.frame_overlays import overlays_in
from common.metrics import EVALUATIONS
from common.networks import TwoStage
from tests.bundles.bundle_test_base import Mistake, read_csv, read_json
from tests.bundles.runs import content_of, equal, run, run_in_ranks, undone, workflow
from tests.bundles.video_bundle_tests import BrightFrames, VideoBundleTests, masks_in
from tests.common.data.video.dataset_files import write_picture
from tests.common.handlers.video_runs import GRID, LEVEL, SIZE

# Part, number of frames and size. Each has one frame without anything, as each seventh of a scene is.
SEQUENCES = {
    "a": ("train", 8, SIZE),
    "b": ("train", 7, (40, 56)),
    "c": ("validation", 8, (40, 56)),
    "d": ("test", 9, SIZE),
}
# Parameters of the networks by their ids.
CLASSIFIERS = {"resnet18": 11_177_921, "resnet34": 21_286_081, "mobilenetv3": 4_203_313}
SEGMENTERS = {
    ("unet", "table5"): 3_306_449,
    ("resunet", "table5"): 3_652_113,
    ("r2unet", "table5"): 6_348_641,
    ("aunet", "table5"): 2_015_204,
    ("aresunet", "table5"): 2_446_884,
    ("ar2unet", "table5"): 2_644_268,
    ("r2unet", "prose"): 2_432_609,
    ("ar2unet", "prose"): 2_082_668,
    ("segformer_b0", "table5"): 3_714_401,
    ("segformer_b1", "table5"): 13_677_761,
}
MISSING_PACKAGE = (
    {
        "SegFormer without transformers": Mistake(
            "inference", {"segmenter": "segformer_b0"}, ["segmenter=segformer_b0", "transformers", "requirements-extra"]
        )
    }
    if importlib.util.find_spec("transformers") is None
    else {}
)


class BrightIsThere(nn.Module):
    """One logit (B, 1) of frames (B, 3, h, w): whether anything is bright."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 12 * (x.mean(dim=1).flatten(1).amax(dim=1, keepdim=True) - LEVEL)


class TestBESS(VideoBundleTests):
    name = "bess"
    sequences = SEQUENCES
    still = True
    tiny: Mapping[str, Any] = {
        "classifier_width": 0.125, "classifier_size": [24, 32], "segmenter_size": [32, 48], "features": [4, 8],
        "precision": "fp32",
    }  # fmt: skip
    training: Mapping[str, Any] = {
        "batch_size": 4, "lr": 0.02, "expansion": 2, "rotation": 10.0, "classifier_batch_size": 4,
        "classifier_max_epochs": 1, "classifier_lr": 0.001,
    }  # fmt: skip
    other_setting = ("segmenter_size", [32, 64])
    batch_shape = (2, 3, 40, 56)
    flips = (-1, "sigmoid", {"gate_threshold": 0})
    learn_nothing: Mapping[str, Any] = {"lr": 0.0, "classifier_lr": 0.0}
    channel_axis = -3
    metrics = ("val_negative_loss", "val_mean_dice")
    table = "frames.csv"
    also_left = ("classifier",)
    first_stage = "classifier"
    quick: Mapping[str, Any] = {"samples": 20, "panel_frames": 0, "save_masks": False}
    training_arguments = ("dropout",)
    mistakes: Mapping[str, Mistake] = VideoBundleTests.mistakes | {
        "empty data": Mistake("train", {"dataset_dir": "{empty}"}, ["{empty}", "holds no labelled frames", "README"]),
        "no negatives": Mistake(
            "train", {"dataset_dir": "{no negatives}"}, ["{no negatives}", "stage 1 cannot be trained", "add negatives"]
        ),
        "no positives": Mistake("train", {"dataset_dir": "{no positives}"}, ["{no positives}", "neither stage"]),
        "a positive without a mask": Mistake(
            "train", {"dataset_dir": "{bare}"}, ["000.png", "is a positive without a mask", "train_classifier.json"]
        ),
        "a patient in two parts": Mistake(
            "train", {"dataset_dir": "{leak}"}, ["its patient 'p' is in the", "all frames of a patient in one part"]
        ),
        "a mask of another size": Mistake(
            "train", {"dataset_dir": "{strange}"}, ["b/masks/001.png", "is 20 x 20, its frame 56 x 40"]
        ),
        "a classifier of other inputs": Mistake(
            "train_segmenter",
            {"classifier_dir": "{trained}/classifier", "classifier_size": "[24,40]"},
            ["{trained}/classifier/model.pt", "classifier_size [24,32], not [24,40]"],
        ),
        "a stage that was never trained": Mistake(
            "inference", {"checkpoint": "{half}"}, ["{half}", "its classifier was never trained", "--gate_threshold 0"]
        ),
        "unknown classifier": Mistake("train", {"classifier": "vgg"}, ["resnet18, resnet34, mobilenetv3", "'vgg'"]),
        "unknown segmenter": Mistake("inference", {"segmenter": "vnet"}, ["unet, resunet", "'vnet'"]),
        "no threshold": Mistake(
            "inference", {"gate_threshold": "1.5"}, ["--gate_threshold 1.5", "from 0 to 1"], logged=False
        ),
        "too few numbers": Mistake(
            "inference", {"segmenter_size": "[256]"}, ["--segmenter_size [256]", "2 whole numbers"], logged=False
        ),
        "no such fold": Mistake("train", {"dataset_dir": "{plain}", "fold": 7}, ["fold=7", "pass --fold 0 to"]),
        "compared with nothing": Mistake("evaluate", {"compare_with": "['{empty}']"}, ["{empty}"]),
    } | MISSING_PACKAGE  # fmt: skip

    # ------------------------------------------------------------------------------------------- what the base asks for

    @pytest.fixture(scope="class")
    def own_places(self, dataset: Path, example: Path, shared: Path) -> dict[str, object]:
        folder = shared / "own_places"
        named: dict[str, object] = self.places_for_videos(folder, example)
        strange = shutil.copytree(dataset, folder / "strange")
        write_picture(strange / "b" / "masks" / "001.png", np.zeros((20, 20), np.uint8))
        rows = [
            {"image": f"{name}/frames/{index:03d}.png", "mask": f"{name}/masks/{index:03d}.png", "patient": name}
            for name, (_, length, _) in SEQUENCES.items()
            for index in range(length)
        ]
        drawn = [row for row in rows if self.is_drawn(dataset / row["mask"])]
        lists = {
            "no negatives": drawn,
            "no positives": [row for row in rows if row not in drawn],
            "bare": [*rows[1:], {"image": "a/frames/000.png", "present": True, "patient": "a"}],
            "leak": [row | {"patient": "p", "part": "train" if at else "test"} for at, row in enumerate(rows)],
            "plain": rows,
        }
        for name, listed in lists.items():
            place = shutil.copytree(dataset, folder / name)
            (place / "index.json").write_text(json.dumps({"frames": listed}), encoding="utf-8")
            named[name] = place
        with undone():
            made = workflow(self.root, "inference", **self.tiny)
            made.parser.parse(reset=True)
            network = made.parser.get_parsed_content("network_def")
        network.mark_trained("segmenter")
        torch.save(network.state_dict(), folder / "half.pt")
        return named | {"strange": strange, "half": folder / "half.pt"}

    @staticmethod
    def is_drawn(mask: Path) -> bool:
        with Image.open(mask) as picture:
            return bool(np.asarray(picture).any())

    def labelled_item(self, dataset: Path) -> dict[str, Any]:
        places = {"image": dataset / "a" / "frames", "label": dataset / "a" / "masks"}
        return {key: str(place / "001.png") for key, place in places.items()} | {"present": True}

    @pytest.fixture(scope="class")
    def bright(self, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
        """Ids that put two stages whose results are known in the place of the network."""
        network = TwoStage(BrightIsThere(), BrightFrames(), classifier_size=GRID, segmenter_size=GRID)
        for stage in network.untrained():
            network.mark_trained(stage)
        checkpoint = tmp_path_factory.mktemp("bright") / "model.pt"
        torch.save(network.state_dict(), checkpoint)
        return self.tiny | {"network_def": network, "checkpoint": str(checkpoint)}

    # ------------------------------------------------------------------------------------------------ one preprocessing

    def test_all_runs_preprocess_alike(self, dataset):
        """Each stage sees in its training what the pipeline shows it: the pipeline resizes, a training's transforms."""
        stages = {"classifier": "train_classifier", "segmenter": "train_segmenter"}
        with undone():
            made = workflow(self.root, "inference", **self.tiny)
            made.parser.parse(reset=True)
            frame = made.parser.get_parsed_content("preprocessing")(self.labelled_item(dataset))["image"].as_tensor()
        assert tuple(frame.shape) == (3, *SIZE) and 0 <= frame.min() < frame.max() <= 1
        for config in ("evaluate",):
            with undone():
                made = workflow(self.root, config, **self.tiny, dataset_dir=str(dataset))
                made.parser.parse(reset=True)
                seen = made.parser.get_parsed_content("validate#preprocessing")(self.labelled_item(dataset))
            assert torch.equal(seen["image"].as_tensor(), frame)
        for stage, config in stages.items():
            wanted = F.interpolate(frame[None], tuple(self.tiny[f"{stage}_size"]), mode="bilinear")[0]
            with undone():
                made = workflow(self.root, config, **self.tiny, dataset_dir=str(dataset))
                made.parser.parse(reset=True)
                for keys in (self.train_transforms, ["validate#preprocessing"]):
                    data = self.labelled_item(dataset)
                    for key in keys:
                        data = monai.transforms.Compose(made.parser.get_parsed_content(key))(data)
                    torch.testing.assert_close(data["image"].as_tensor(), wanted, rtol=0, atol=1e-5)

    # -------------------------------------------------------------------------------------------------------- networks

    @pytest.mark.parametrize(("segmenter", "profile"), SEGMENTERS, ids=" ".join)
    def test_segmenters(self, segmenter, profile):
        self.check_parameters("segmenter", SEGMENTERS[segmenter, profile], segmenter=segmenter, profile=profile)

    @pytest.mark.parametrize("classifier", CLASSIFIERS)
    def test_classifiers(self, classifier):
        self.check_parameters("classifier", CLASSIFIERS[classifier], classifier=classifier)

    def check_parameters(self, stage: str, count: int, **ids: str) -> None:
        if ids.get("segmenter", "").startswith("segformer"):
            pytest.importorskip("transformers")
        # Without weights, whose settings would go before the paper's.
        for config, more in (("train", {}), ("inference", {"checkpoint": None})):
            with undone():
                made = workflow(self.root, config, **ids, **more)
                made.parser.parse(reset=True)
                network = getattr(made.parser.get_parsed_content("network_def"), stage)
                size = made.parser.get_parsed_content("segmenter_size")
            assert sum(parameter.numel() for parameter in network.parameters()) == count
            assert size == ([512, 512] if ids.get("segmenter", "").startswith("segformer") else [256, 256])

    @pytest.mark.parametrize(
        "ids",
        [
            {"classifier": "mobilenetv3", "classifier_width": 1.0, "segmenter": "aresunet"},
            {"classifier": "resnet34", "segmenter": "ar2unet"},
            {"segmenter": "r2unet", "profile": "prose", "features": [4, 8, 12]},
        ],
        ids=str,
    )
    def test_other_networks(self, ids, dataset, example, scratch):
        """An epoch of both stages, and their weights segment; without the ids a line tells what they are."""
        given = {**self.tiny, **ids}
        run(
            self.root, "train", **self.training | given, max_epochs=1, dataset_dir=str(dataset), output_dir=str(scratch)
        )
        given |= {"checkpoint": str(scratch / "model.pt"), "input": str(example)}
        run(self.root, "inference", **given, output_dir=str(scratch / "masks"))
        assert masks_in(scratch / "masks", "one")[0].shape == (36, 50)
        with pytest.raises(RuntimeError) as error:
            run(self.root, "inference", **given | {"segmenter": "unet"}, output_dir=str(scratch / "other"))
        assert f'was trained with segmenter "{ids["segmenter"]}", not "unet"' in str(error.getrepr())

    @pytest.mark.parametrize("config", ["half_size", "demo"])
    def test_smaller_trainings(self, config, dataset, scratch):
        ids = {**self.training, **self.tiny, "dataset_dir": str(dataset), "output_dir": str(scratch), "max_epochs": 1}
        run(self.root, config, **ids)
        assert (scratch / "model.pt").is_file()

    # ------------------------------------------------------------------------------------------------------ two stages

    def stage(self, dataset: Path, output: Path, stage: str, **ids: Any) -> Path:
        """Train one stage with what the other tests train both with."""
        common = {"expansion", "rotation"} if stage == "classifier" else self.training.keys()
        given = {**self.tiny, **{name: value for name, value in self.training.items() if name in common}}
        if stage == "classifier":
            given |= {"batch_size": 4, "lr": 0.001}
        run(self.root, f"train_{stage}", **given | {"dataset_dir": str(dataset), "output_dir": str(output)} | ids)
        return output

    def test_one_stage_after_the_other_is_both_together(self, trained, dataset, scratch):
        self.stage(dataset, scratch, "classifier", max_epochs=1)
        assert not (scratch / "model.pt").exists()
        self.stage(dataset, scratch, "segmenter", max_epochs=3)
        for file in ("classifier/model.pt", "model.pt", "model_last.pt", "training_state.pt"):
            assert equal(*(torch.load(folder / file, weights_only=True) for folder in (scratch, trained))), file
        for file in ("classifier/history.csv", "history.csv"):
            assert (scratch / file).read_bytes() == (trained / file).read_bytes()

    def test_a_pipeline_gets_another_classifier(self, trained, dataset, example, scratch):
        """The segmenter first, then the classifier: both are in the weights, and each is what its training gave."""
        self.stage(dataset, scratch, "segmenter", max_epochs=1)
        first = torch.load(scratch / "model.pt", weights_only=True)
        assert first["stages_trained"].tolist() == [False, True]
        self.stage(dataset, scratch, "classifier", max_epochs=1)
        second = torch.load(scratch / "model.pt", weights_only=True)
        assert second["stages_trained"].tolist() == [True, True]
        own = torch.load(scratch / "classifier" / "model.pt", weights_only=True)
        assert equal({name: second[f"classifier.{name}"] for name in own}, dict(own))
        assert all(equal(first[name], second[name]) for name in first if name.startswith("segmenter."))
        ids = {**self.tiny, "checkpoint": str(scratch / "model.pt"), "input": str(example)}
        run(self.root, "inference", **ids, output_dir=str(scratch / "masks"))

    def test_a_pause_within_the_first_stage(self, dataset, scratch):
        ids = {"classifier_max_epochs": 2, "max_epochs": 1}
        whole = self.train(dataset, scratch / "whole", **ids)
        self.stage(dataset, scratch / "parts", "classifier", max_epochs=1)
        parts = self.train(dataset, scratch / "parts", resume=True, **ids)
        for file in ("classifier/training_state.pt", "classifier/model.pt", "model.pt", "training_state.pt"):
            assert equal(*(torch.load(folder / file, weights_only=True) for folder in (whole, parts))), file

    def test_a_classifier_of_another_run(self, trained, dataset, scratch):
        self.stage(dataset, scratch, "segmenter", max_epochs=1, classifier_dir=str(trained / "classifier"))
        state, own = (torch.load(path, weights_only=True) for path in (
            scratch / "model.pt", trained / "classifier" / "model.pt"))  # fmt: skip
        assert equal({name: state[f"classifier.{name}"] for name in own}, dict(own))
        assert not (scratch / "classifier").exists()

    def test_what_each_stage_is_trained_on(self, trained):
        splits = {stage: read_json(trained / stage / "split.json") for stage in ("classifier", ".")}
        counts = {
            stage: [len(split[part]) for part in ("train", "validation", "test")] for stage, split in splits.items()
        }
        assert counts == {"classifier": [15, 8, 9], ".": [13, 7, 8]}  # one frame of each sequence is empty
        assert set(splits["."]["test"]) < set(splits["classifier"]["test"])

    def test_negatives_are_trained_on_when_asked(self, trained, dataset, scratch):
        given = {"classifier_dir": str(trained / "classifier"), "train_on_negatives": "true"}
        self.stage(dataset, scratch, "segmenter", max_epochs=1, **given)
        split, classifier = (read_json(path / "split.json") for path in (scratch, trained / "classifier"))
        assert split["train"] == classifier["train"] and [len(split[part]) for part in ("validation", "test")] == [7, 8]

    def test_all_folds_are_trained_on(self, dataset, scratch):
        for name in ("a", "b", "c", "d"):
            shutil.copytree(dataset / name, scratch / "data" / name)
        ids = {**self.training, "num_folds": 2, "test_share": 0.25, "all_folds": "true", "max_epochs": 1}
        output = self.train(scratch / "data", scratch / "run", **ids)
        split = read_json(output / "split.json")
        assert (split["fold"], split["validation"]) == ("all", []) and split["train"] and split["test"]
        assert (output / "model.pt").is_file() and "val_mean_dice" not in read_csv(output / "history.csv")[0]

    def test_patience(self, dataset, scratch):
        """A rate of 0 changes nothing but the normalizations' statistics: the first epochs are the best soon."""
        output = self.train(dataset, scratch, max_epochs=9, lr=0.0, early_stopping=2)
        rows = read_csv(output / "history.csv")
        scores = [float(row["val_negative_loss"]) for row in rows]
        assert len(rows) == 9 or len(rows) - 1 - scores.index(max(scores)) == 2

    # ------------------------------------------------------------------------------------------------------- inference

    @pytest.fixture(scope="class")
    def stills(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Pictures of several sizes, some of them dark."""
        folder = tmp_path_factory.mktemp("stills") / "pictures"
        for index, size in enumerate([(40, 56), (40, 56), (36, 50), (40, 56), (36, 50)]):
            picture = np.full((*size, 3), 20, np.uint8)
            if index % 2 == 0:
                picture[8:20, 10:30] = 225
            write_picture(folder / f"{index}.png", picture)
        return folder

    @pytest.mark.parametrize("batch_size", [1, 2, 8])
    def test_frames_that_pass_and_frames_that_do_not(self, batch_size, bright, stills, tmp_path):
        """Whatever the batches, the pictures' sizes among them."""
        run(self.root, "inference", **bright, input=str(stills), output_dir=str(tmp_path), batch_size=batch_size)
        rows = read_csv(tmp_path / "pictures_frames.csv")
        assert [row["present"] for row in rows] == ["1", "0", "1", "0", "1"] == [row["seg_ran"] for row in rows]
        assert [float(row["p_present"]) > 0.5 for row in rows] == [True, False, True, False, True]
        assert [int(row["area_px"]) > 0 for row in rows] == [True, False, True, False, True]
        masks = [np.asarray(Image.open(tmp_path / "pictures_mask" / f"{index}.png")) for index in range(5)]
        assert [mask.shape for mask in masks] == [(40, 56), (40, 56), (36, 50), (40, 56), (36, 50)]
        inside = masks[0] > 0
        assert inside[10:18, 13:27].all() and not inside[24:].any()
        origin = read_json(tmp_path / "pictures_seg.json")
        assert origin["settings"]["gate_threshold"] == 0.5

    def test_the_gates_threshold(self, bright, released, stills, tmp_path):
        passed = {}
        for threshold in (0.0, 0.5, 1.0):
            ids = {**self.tiny, "gate_threshold": threshold, "overlay": "false", "input": str(stills)}
            run(released, "inference", **ids, output_dir=str(tmp_path / str(threshold)))
            rows = read_csv(tmp_path / str(threshold) / "pictures_frames.csv")
            passed[threshold] = [int(row["present"]) for row in rows]
            assert passed[threshold] == [int(float(row["p_present"]) >= threshold) for row in rows]
        assert passed[0.0] == [1] * 5 and passed[1.0] == [0] * 5

    def test_a_single_picture(self, bright, stills, tmp_path):
        run(self.root, "inference", **bright, input=str(stills / "0.png"), output_dir=str(tmp_path))
        (row,) = read_csv(tmp_path / "0_frames.csv")
        assert row["present"] == "1" and int(row["area_px"]) > 0

    # ------------------------------------------------------------------------------------------------------ evaluation

    @pytest.fixture(scope="class")
    def evaluated(self, released: Path, dataset: Path, shared: Path) -> Path:
        """The evaluation of all frames with random weights and a gate that some of them pass."""
        ids = {**self.tiny, "dataset_dir": str(dataset), "samples": 50, "panel_frames": 2, "overlays": "true"}
        run(released, "evaluate", **ids, part="all", output_dir=str(shared / "first"))
        probabilities = [float(row["p_present"]) for row in read_csv(shared / "first" / "frames.csv")]
        ids["gate_threshold"] = float(np.median(probabilities))
        run(released, "evaluate", **ids, part="all", output_dir=str(shared / "evaluated"))
        return shared / "evaluated"

    def test_evaluation_and_inference_agree(self, evaluated, released, dataset, tmp_path):
        """Probabilities, gate and masks; the evaluation keeps the masks of frames that do not pass, too."""
        threshold = read_json(evaluated / "summary.json")["gate_threshold"]
        ids = {**self.tiny, "overlay": "false", "gate_threshold": threshold, "input": str(dataset)}
        run(released, "inference", **ids, output_dir=str(tmp_path))
        inferred = {
            f"{name}_{int(row['frame']):04d}": row
            for name in SEQUENCES
            for row in read_csv(tmp_path / f"{name}_frames.csv")
        }
        rows = {row["id"]: row for row in read_csv(evaluated / "frames.csv")}
        assert rows.keys() == inferred.keys() and len(rows) == 32
        passed = 0
        for name, row in rows.items():
            other = inferred[name]
            assert float(row["p_present"]) == pytest.approx(float(other["p_present"]), abs=1e-4)
            assert bool(int(row["passes_gate"])) == bool(int(other["present"]))
            mask = np.asarray(Image.open(evaluated / "masks" / f"{name}.png"))
            sequence, index = name.split("_")
            written = np.asarray(Image.open(tmp_path / f"{sequence}_mask" / f"{int(index):03d}.png"))
            np.testing.assert_array_equal(written, mask if int(other["present"]) else 0)
            passed += int(other["present"])
        assert 0 < passed < 32

    def test_the_scores_are_those_of_the_masks(self, evaluated, dataset):
        rows = {row["id"]: row for row in read_csv(evaluated / "frames.csv")}
        scores: dict[str, list[float]] = {"segmenter_positives": [], "segmenter_all": [], "end_to_end": []}
        for name, row in rows.items():
            sequence, index = name.split("_")
            drawn = np.asarray(Image.open(dataset / sequence / "masks" / f"{int(index):03d}.png").convert("L")) > 0
            found = np.asarray(Image.open(evaluated / "masks" / f"{name}.png")) > 0
            for which, mask in (("segmenter_all", found), ("end_to_end", found & bool(int(row["passes_gate"])))):
                both = mask.sum() + drawn.sum()
                scores[which].append(2 * (mask & drawn).sum() / both if both else 1.0)
            if drawn.any():
                scores["segmenter_positives"].append(scores["segmenter_all"][-1])
        table = {(row["evaluation"], row["score"]): float(row["value"]) for row in read_csv(evaluated / "scores.csv")}
        for which, values in scores.items():
            assert table[which, "DSC"] == pytest.approx(np.mean(values), abs=1e-3), which
        assert len(scores["segmenter_positives"]) == 28

    def test_what_an_evaluation_leaves(self, evaluated):
        names = {path.name for path in evaluated.iterdir()}
        assert names == {
            "frames.csv", "frames.npz", "log.txt", "masks", "overlays", "panel_random.png", "panel_worst.png", "pr.png",
            "roc.png", "scores.csv", "scores.md", "summary.json",
        }  # fmt: skip
        pictures = overlays_in(evaluated)
        assert 9 <= len(pictures) <= 27 and pictures.keys() <= {row["id"] for row in read_csv(evaluated / "frames.csv")}

    def test_models_are_compared(self, evaluated, released, trained, dataset, tmp_path):
        ids = {**self.tiny, "dataset_dir": str(dataset), "samples": 50, "panel_frames": 2, "part": "all"}
        ids |= {"checkpoint": str(trained / "model.pt"), "compare_with": [str(evaluated)]}
        run(released, "evaluate", **ids, output_dir=str(tmp_path))
        rows = read_csv(tmp_path / "comparisons.csv")
        assert {row["evaluation"] for row in rows} == set(EVALUATIONS)
        assert all(0 < float(row["p_value"]) <= 1 for row in rows if row["p_value"])

    @pytest.mark.parametrize(("part", "frames"), [("heldout", 17), ("validation", 8)])
    def test_evaluation_in_two_processes_is_that_of_one(self, part, frames, dataset, trained, tmp_path):
        ids = {**self.tiny, "dataset_dir": str(dataset), "part": part, "checkpoint": str(trained / "model.pt")}
        ids |= {"samples": 50, "panel_frames": 2, "model_name": "model", "overlays": "true"}
        run(self.root, "evaluate", **ids, output_dir=str(tmp_path / "one"))
        run_in_ranks(self.root, "evaluate", 2, **ids, output_dir=tmp_path / "two")
        assert len(read_csv(tmp_path / "one" / "frames.csv")) == frames
        one, two = (content_of(tmp_path / name) for name in ("one", "two"))
        assert one.keys() == two.keys()
        same = [name for name in one if name.endswith((".csv", ".png", ".jpg"))]
        assert len(same) > frames and all(one[name] == two[name] for name in same)
        one, two = (read_json(tmp_path / name / "summary.json") for name in ("one", "two"))
        assert {**one, "provenance": None} == {**two, "provenance": None}

    # ---------------------------------------------------------------------------------------------- host applications

    def test_a_host_gets_what_the_command_line_writes(self, released, segmented, videos):
        pred = self.host_inference(released, videos / "one" / "7.png", None, **self.tiny)["pred"]
        (written,) = masks_in(segmented[0], "one")
        np.testing.assert_array_equal(255 * pred.T.numpy(), written)

    def check_host_training(self, bundle: Path) -> None:
        state = torch.load(bundle / "models" / "model.pt", weights_only=True)
        assert state["stages_trained"].tolist() == [True, True]
        assert not (bundle / "output" / "train" / "classifier").exists()  # the segmenter alone

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from typing import Any

import monai
import pytest
import torch

from tests.bundles.bundle_test_base import BundleTests, Mistake, read_csv, read_json
from tests.bundles.runs import content_of, equal, run, run_in_ranks, undone, workflow
from tests.bundles.spine_bundle_tests import SpineBundleTests

# Inference takes its grid and width from the shipped weights; here the paper's are meant.
WITHOUT_WEIGHTS: Mapping[str, Any] = {"inference": {"checkpoint": None}}


class TestSSHSNet(SpineBundleTests):
    name = "sshsnet"
    tiny: Mapping[str, Any] = {
        "spacing": [4.0, 4.0, 8.0], "window_size": [32, 64, 4], "patch_size": [32, 32, 4], "width": 0.0625,
        "layers": [1, 1, 1, 1], "precision": "fp32",
    }  # fmt: skip
    training: Mapping[str, Any] = {
        **SpineBundleTests.split, "num_patches": 2, "labelled_share": 0.7, "val_interval": 1, "stage1_batch_size": 2,
        "stage1_max_epochs": 1, "stage1_val_interval": 1, "lr": 0.01,
    }  # fmt: skip
    whole: Mapping[str, Any] = {
        "spacing": [1.2, 1.3, 4.1], "window_size": [64, 64, 14], "patch_size": [64, 64, 14], "precision": "fp32",
    }  # fmt: skip
    other_setting = ("patch_size", [32, 64, 4])
    batch_shape = (2, 1, 32, 64, 4)
    flips = (-1, "probabilities", {})
    plane = (0, 1)
    augmented = (
        ("train", "train#preprocessing#transforms"),
        ("train_stage1", "train#preprocessing#transforms"),
        ("train_stage1", "train#unlabelled_transforms"),
    )
    channel_axis = -4
    inference_overlays = ("ensemble", "fast")
    evaluation_overlays = ("evaluate_stage1",)
    laid_over: Mapping[str, Any] = {"release_stage1": ("train_stage1",)}
    also_left = ("stage1",)
    first_stage = "stage1"
    training_arguments = ("pretrained_path",)
    pauses = BundleTests.pauses
    train_transforms = ("train#deterministic_transforms",)
    mistakes: Mapping[str, Mistake] = {
        name: mistake for name, mistake in SpineBundleTests.mistakes.items() if name not in ("unknown selection",)
    } | {
        "too few numbers": Mistake(
            "inference", {"spacing": "[0.3,0.3]"}, ["--spacing [0.3,0.3]", "3 numbers"], logged=False
        ),
        "unknown mode": Mistake("inference", {"mode": "quick"}, ["--mode quick", "faithful"]),
        "unknown fusion": Mistake("inference", {"fusion": "sum"}, ["tri_attention", "'sum'"]),
    }  # fmt: skip

    def test_training_in_two_processes(self, dataset, scratch):
        """All four scans are labelled, so that each process has two in a batch: the decoders need more than one."""
        ids = {**self.tiny, **self.training, "dataset_dir": dataset, "output_dir": scratch, "batch_size": 2}
        ids |= {"labelled_share": 1.0, "stage1_batch_size": 4}
        run_in_ranks(self.root, "train", 2, **ids, max_epochs=1)
        weights = torch.load(scratch / "model.pt", weights_only=True)
        assert not [name for name in weights if "module." in name]
        run_in_ranks(self.root, "train", 2, **ids, max_epochs=2, resume="true")
        assert [row["epoch"] for row in read_csv(scratch / "history.csv")] == ["1", "2"]

    def as_fine_as(self, slices: int) -> dict[str, Any]:
        size = [64, 64, slices]
        return {"spacing": [1.2, 1.3, 60 / slices], "window_size": size, "patch_size": size}

    def test_all_runs_preprocess_alike(self, dataset):
        """Up to the copies of the outermost slices that a training adds to thin scans."""
        seen = []
        for config, keys in (
            ("inference", ["preprocessing"]),
            ("train", ["train#deterministic_transforms"]),
            ("train", ["validate#preprocessing"]),
            ("evaluate", ["validate#preprocessing"]),
        ):
            with undone():
                made = workflow(self.root, config, **WITHOUT_WEIGHTS.get(config, {}))
                made.parser.parse(reset=True)
                data = self.labelled_item(dataset)
                for key in keys:
                    data = monai.transforms.Compose(made.parser.get_parsed_content(key))(data)
            seen.append(data["image"].as_tensor())
        slices = seen[0].shape[-1]
        more = seen[1].shape[-1] - slices
        seen[1] = seen[1][..., more // 2 : more // 2 + slices]
        assert all(torch.equal(volume, seen[0]) for volume in seen[1:])

    @pytest.mark.parametrize(
        ("fusion", "stage2"),
        [("tri_attention", 33_069_015), ("dual_attention", 31_888_854), ("concatenation", 32_396_436)],
    )
    def test_parameters(self, fusion, stage2):
        for config in ("train", "inference"):
            with undone(), torch.device("meta"):
                made = workflow(self.root, config, fusion=fusion, **WITHOUT_WEIGHTS.get(config, {}))
                made.parser.parse(reset=True)
                network = made.parser.get_parsed_content("network_def")
            counts = [sum(p.numel() for p in part.parameters()) for part in (network.stage1, network.stage2)]
            assert counts == [57_370_664, stage2]

    def test_stage_1_is_trained_once(self, trained, dataset, scratch):
        """Weights of an earlier training are taken; what both stages are trained on is kept apart."""
        shutil.copytree(trained / "stage1", scratch / "stage1")
        before = content_of(scratch / "stage1")
        self.train(dataset, scratch, max_epochs=3)
        assert content_of(scratch / "stage1") == before
        for file in ("model.pt", "training_state.pt"):
            assert equal(*(torch.load(folder / file, weights_only=True) for folder in (scratch, trained))), file
        split = read_json(trained / "split.json")
        assert split["labelled"] and split["unlabelled"] and not set(split["labelled"]) & set(split["unlabelled"])

    def test_stage_1_stays_as_it_was_trained(self, dataset, scratch):
        """Also where no validation has put it into evaluation mode, in which stage 2 has to see it."""
        self.train(dataset, scratch, stage1_val_interval=5, max_epochs=2)
        whole = torch.load(scratch / "model_last.pt", weights_only=True)
        stage1 = torch.load(scratch / "stage1" / "model_last.pt", weights_only=True)
        assert equal({name: whole[f"stage1.{name}"] for name in stage1}, stage1)

    def test_stage_1_without_unlabelled_scans(self, dataset, scratch):
        ids = {**self.tiny, **self.split, "dataset_dir": str(dataset), "batch_size": 2, "max_epochs": 1}
        ids |= {"labelled_share": 0.7, "val_interval": 1}
        history = []
        for semi in ("true", "false"):
            output = scratch / semi
            run(self.root, "train_stage1", **ids, semi_supervised=semi, output_dir=str(output))
            row = read_csv(output / "stage1" / "history.csv")[0]
            history.append({name: float(row[name]) for name in ("loss", "supervised", "cps")})
        for row in history:
            assert row["loss"] == pytest.approx(row["supervised"] + row["cps"], rel=1e-6)
        assert history[0]["cps"] > 0 == history[1]["cps"]

    @pytest.mark.parametrize("stage", ["stage1", "stage2"])
    def test_a_release_keeps_the_mean_of_its_weights_and_goes_on_from_there(self, stage, trained, dataset, scratch):
        configs = "train_stage1+release_stage1" if stage == "stage1" else "train_stage2+release"
        ids = {**self.tiny, "dataset_dir": str(dataset), "epoch_length": 4, "val_interval": 1, "num_patches": 2}
        ids |= {"batch_size": 2, **SpineBundleTests.split}
        states = []
        for part, epochs in (("whole", (2,)), ("parts", (1, 2))):
            folder = scratch / part
            if stage == "stage2":
                shutil.copytree(trained / "stage1", folder / "stage1")
                (folder / "stage1" / "training_state.pt").unlink()
            for number in epochs:
                resume = number != epochs[0]
                run(self.root, configs, **ids, output_dir=str(folder), max_epochs=number, resume=resume)
            states.append(
                torch.load(folder / ("" if stage == "stage2" else stage) / "training_state.pt", weights_only=True)
            )
        assert equal(states[0]["network"], states[1]["network"])
        assert equal(states[0]["objects"]["trained"], states[1]["objects"]["trained"])
        mean, trained_weights = states[0]["network"], states[0]["objects"]["trained"]
        assert mean.keys() == trained_weights.keys()
        changed = {name for name in mean if not torch.equal(mean[name], trained_weights[name])}
        assert changed
        if stage == "stage2":  # what is not trained stays as it is, but for the mean's rounding
            assert not [name for name in changed if name.startswith("stages_trained")]
            for name in mean:
                if name.startswith("stage1."):
                    torch.testing.assert_close(mean[name], trained_weights[name], rtol=1e-5, atol=1e-6)

    def test_evaluation_of_stage_1_alone(self, trained, dataset, tmp_path):
        """It has its own weights, and its own scores: those of stage 1 in the whole pipeline."""
        ids = {**self.tiny, **self.split, "dataset_dir": str(dataset), "distances": "false"}
        weights = {"alone": trained / "stage1" / "model.pt", "whole": trained / "model.pt"}
        run(self.root, "evaluate+evaluate_stage1", **ids, checkpoint=str(weights["alone"]), output_dir=str(tmp_path))
        scores = [float(row["dice"]) for row in read_csv(tmp_path / "dice.csv") if row["dice"]]
        with undone():
            made = workflow(self.root, "evaluate+evaluate_stage1", **ids, checkpoint=str(weights["whole"]))
            made.parser["validate#handlers#0#network"] = "@network"
            made.parser["output_dir"] = str(tmp_path / "whole")
            made.initialize()
            made.run()
        assert scores == [float(row["dice"]) for row in read_csv(tmp_path / "whole" / "dice.csv") if row["dice"]]
        with pytest.raises(RuntimeError):
            run(
                self.root, "evaluate+evaluate_stage1", **ids, checkpoint=str(weights["whole"]), output_dir=str(tmp_path)
            )

    def test_near_rates_are_a_variant_of_stage_2(self):
        """Of the same size, for the 3D network alone; weights of one are refused where the other is meant."""
        seen = {}
        for config in ("train", "train+near_rates"):
            with undone(), torch.device("meta"):
                made = workflow(self.root, config)
                made.parser.parse(reset=True)
                network = made.parser.get_parsed_content("network_def")
                plan = made.parser.get_parsed_content("plan")
            dilations = [
                [branch[0].conv.dilation for branch in list(stage.decoder.pyramid[0].branches)[1:]]
                for stage in (network.stage1.branch1, network.stage2)
            ]
            seen[config] = (sum(p.numel() for p in network.parameters()), *dilations, plan["aspp_rates_3d"])
        planes, near = [(12, 12), (24, 24), (36, 36)], [[2, 2, 1], [4, 4, 2], [6, 6, 3]]
        count = 57_370_664 + 33_069_015
        assert seen["train"] == (count, planes, [(12, 12, 12), (24, 24, 24), (36, 36, 36)], [12, 24, 36])
        assert seen["train+near_rates"] == (count, planes, [tuple(rates) for rates in near], near)

    @pytest.mark.parametrize("mode", ["faithful", "fast"])
    def test_modes(self, mode, released, example, tmp_path):
        ids = {**self.tiny, "input": str(example), "output_dir": str(tmp_path), "mode": mode, "overlay": "false"}
        run(released, "inference", **ids)
        assert read_json(tmp_path / "RAS_seg.json")["settings"]["mode"] == mode

    def test_weights_say_in_which_mode_they_are_used(self, tmp_path):
        weights = tmp_path / "model.pt"
        for settings, mode in (({}, "faithful"), ({"mode": "fast", "width": 0.5}, "fast")):
            weights.with_suffix(".json").write_text(json.dumps(settings), encoding="utf-8")
            with undone():
                parser = workflow(self.root, "inference", bundle_root=str(self.root), checkpoint=str(weights)).parser
                assert parser.get_parsed_content("mode") == mode
                assert parser.get_parsed_content("width") == settings.get("width", 1.0)

    def test_ensemble(self, released, trained, example, tmp_path):
        """The mean of two weights' probabilities, the networks held or read for each scan; none are refused."""
        ids = {**self.tiny, "input": str(example), "overlay": "false"}
        checkpoints = [str(released / "models" / "model.pt"), str(trained / "model.pt")]
        for keep in ("true", "false"):
            output = str(tmp_path / keep)
            run(released, "inference+ensemble", **ids, checkpoints=checkpoints, keep_networks=keep, output_dir=output)
        maps = [(tmp_path / keep / "RAS_seg.nii.gz").read_bytes() for keep in ("true", "false")]
        assert maps[0] == maps[1]
        weights = read_json(tmp_path / "true" / "RAS_seg.json")["weights"]
        assert [one["file"] for one in weights] == checkpoints and len({one["sha256"] for one in weights}) == 2
        with pytest.raises(RuntimeError):
            run(released, "inference+ensemble", **ids, output_dir=str(tmp_path / "none"))

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from common.networks import SAFNet
from tests.bundles.bundle_test_base import Mistake, read_csv, read_json, the_line
from tests.bundles.runs import equal, run, undone, words, workflow
from tests.bundles.spine_bundle_tests import SpineBundleTests

# What part of the network each switch takes away or adds: the beginning of its parameters' names.
SWITCHES = ("aspp", "multiscale_fusion", "self_attention", "high_skip")

# The networks that SAFNet is compared with: parameters, and what makes them tiny.
COMPARED: Mapping[str, tuple[int, Mapping[str, Any]]] = {
    "unet": (16_044_466, {"network_def#filters": [2, 4, 4, 8, 8]}),
    "resunet": (16_171_026, {"network_def#filters": [2, 4, 4, 8, 8]}),
    "deeplabv3": (11_390_002, {"+network_def": {"features": [4, 8, 8, 8], "aspp_features": 8}}),
    "cfnet": (8_591_026, {"+network_def": {"features": 8, "stages": 1}}),
    "segresnet": (18_796_530, {"network_def#network#init_filters": 8}),
    "dynunet": (
        30_554_482,
        {
            "network_def#network#filters": [4, 4, 8],
            "network_def#network#strides": [1, [1, 2, 2], 2],
            "network_def#network#kernel_size": [3, 3, 3],
            "network_def#network#upsample_kernel_size": [[1, 2, 2], 2],
        },
    ),
}


class TestSAFNet(SpineBundleTests):
    name = "safnet"
    training = SpineBundleTests.training | {"lr": 0.005, "dice_weight": 1.0}
    flips = (-3, "softmax", {})
    plane = (1, 2)
    whole = SpineBundleTests.whole | {"crop_fraction": 1.0}
    mistakes: Mapping[str, Mistake] = SpineBundleTests.mistakes | {
        "a part of the network that is no boolean": Mistake(
            "inference", {"aspp": "1.5"}, ["--aspp 1.5", "true or false"]
        ),
        "unknown loss": Mistake("train", {"loss_form": "hinge"}, ["hinge", "softmax"]),
        "a misspelt setting of an overlay": Mistake(
            "half_size", {"afine_scale": 0.1}, ["--afine_scale", "did you mean --affine_scale"], logged=False
        ),
    }

    @pytest.mark.parametrize("switch", SWITCHES)
    @pytest.mark.parametrize("config", ["train", "inference"])
    def test_switches_reach_the_network(self, config, switch):
        with undone():
            default = workflow(self.root, config).parser[switch]
            made = workflow(self.root, config, **{switch: str(not default).lower()})
            made.parser.parse(reset=True)
            found = {
                name: tensor.shape
                for name, tensor in made.parser.get_parsed_content("network_def").state_dict().items()
            }
            assert made.parser.get_parsed_content("plan")[switch] is not default
        wanted = SAFNet(1, self.scheme.num_channels, **{switch: not default}).state_dict()
        usual = SAFNet(1, self.scheme.num_channels, **{switch: default}).state_dict()
        assert found == {name: tensor.shape for name, tensor in wanted.items()}
        assert found != {name: tensor.shape for name, tensor in usual.items()}

    def test_weights_remember_the_switches(self, released, scans, launch, tmp_path):
        plan = read_json(released / "models" / "model.json")
        (tmp_path / "model.json").write_text(json.dumps(plan | {"aspp": False}), encoding="utf-8")
        (tmp_path / "model.pt").write_bytes((released / "models" / "model.pt").read_bytes())
        ids = {**self.tiny, "bundle_root": released, "input": scans, "checkpoint": tmp_path / "model.pt"}
        ids |= {"output_dir": tmp_path / "out"}
        config = released / "configs" / "inference.json"
        line = the_line(launch("run", "--config_file", config, *words(ids), cwd=tmp_path))
        assert "was trained with aspp false, not true; pass --aspp 'false'" in line

    @pytest.mark.parametrize("model", COMPARED)
    def test_compared_networks(self, model, dataset, scratch):
        """Each takes the place of SAFNet in training and inference, and its weights know whose they are."""
        count, small = COMPARED[model]
        with undone():
            made = workflow(self.root, model)
            network = made.parser.get_parsed_content("network_def")
            assert made.parser.get_parsed_content("plan")["model"] == model
        assert sum(parameter.numel() for parameter in network.parameters()) == count
        ids = {**self.tiny, **self.training, "dataset_dir": str(dataset), "output_dir": str(scratch / "run")}
        run(self.root, model, **ids | small | {"max_epochs": 1})
        (row,) = read_csv(scratch / "run" / "history.csv")
        assert float(row["loss"]) > 0 and row["val_mean_dice"]
        assert read_json(scratch / "run" / "model.json")["model"] == model
        ids = {
            **self.tiny,
            "checkpoint": str(scratch / "run" / "model.pt"),
            "dataset_dir": str(dataset),
            "overlay": "false",
        }
        run(self.root, f"inference+{model}", **ids | small, output_dir=str(scratch / "seg"))
        assert len(list((scratch / "seg").glob("*_seg.nii.gz"))) == len(list((dataset / "images").iterdir()))

    @pytest.mark.parametrize("config", ["demo", "half_size"])
    def test_smaller_trainings(self, config, dataset, scratch):
        """Each has its own grid and transforms; here one epoch of it, smaller still."""
        usual, grid = read_json(self.root / "configs" / "train.json"), None
        with undone():
            grid = workflow(self.root, config).parser["spatial_size"]
        assert [a < b for a, b in zip(grid, usual["spatial_size"], strict=True)].count(True) >= 2
        ids = {key: value for key, value in {**self.tiny, **self.training}.items() if key not in ("lr", "dice_weight")}
        ids |= {"dataset_dir": str(dataset), "output_dir": str(scratch / "out"), "max_epochs": 1, "val_interval": 1}
        run(self.root, config, **ids)
        (row,) = read_csv(scratch / "out" / "history.csv")
        assert float(row["loss"]) > 0 and row["val_mean_dice"]

    def test_a_release_keeps_the_mean_of_its_weights_and_goes_on_from_there(self, dataset, scratch):
        small = {"crop_slices": 2, "epoch_length": 4, "val_interval": 1, "precision": "fp32"}
        ids = {**self.tiny, **self.training, "dataset_dir": str(dataset)} | small
        run(self.root, "release", **ids, output_dir=str(scratch / "whole"), max_epochs=2)
        run(self.root, "release", **ids, output_dir=str(scratch / "parts"), max_epochs=1)
        run(self.root, "release", **ids, output_dir=str(scratch / "parts"), max_epochs=2, resume=True)
        states = [torch.load(scratch / part / "training_state.pt", weights_only=True) for part in ("whole", "parts")]
        assert equal(states[0]["network"], states[1]["network"])
        assert equal(states[0]["objects"]["trained"], states[1]["objects"]["trained"])
        mean = torch.load(scratch / "whole" / "model_last.pt", weights_only=True)
        assert equal(mean, states[0]["network"])
        name = "classifier.weight"
        assert not torch.equal(mean[name], states[0]["objects"]["trained"][name])

    def test_validation_only_now_and_then(self, dataset, scratch):
        folder = self.train(dataset, scratch / "out", max_epochs=3, val_interval=2)
        rows = read_csv(folder / "history.csv")
        assert [bool(row["val_mean_dice"]) for row in rows] == [False, True, False]
        assert torch.load(folder / "training_state.pt", weights_only=True)["best_epoch"] == 2

    def test_a_set_that_draws_only_some_structures(self, dataset, scratch):
        """What no training case draws is background in every prediction, and the weights know it."""
        cases = read_json(dataset / "index.json")["cases"]
        partly = [case | {"labelled": [2, 3, 11]} for case in cases]
        listing = scratch / "partly.json"
        listing.write_text(json.dumps({"cases": partly}), encoding="utf-8")
        folder = self.train(dataset, scratch / "out", max_epochs=1, datalist=str(listing))
        assert read_json(folder / "model.json")["learned"] == [2, 3, 11]
        ids = {**self.tiny, "dataset_dir": str(dataset), "output_dir": str(scratch / "seg"), "overlay": "false"}
        run(self.root, "inference", checkpoint=str(folder / "model.pt"), **ids)
        assert {int(row["value"]) for row in read_csv(scratch / "seg" / "volumes.csv")} <= {2, 3, 11}

    def test_weights_to_start_from(self, trained, dataset, scratch):
        folder = self.train(
            dataset, scratch / "out", max_epochs=1, lr=0.0, weight_decay=0.0, init_checkpoint=str(trained / "model.pt")
        )
        start, after = (torch.load(path / "model.pt", weights_only=True) for path in (trained, folder))
        weights = [name for name in start if "running" not in name and "num_batches" not in name]
        assert all(torch.equal(start[name], after[name]) for name in weights)

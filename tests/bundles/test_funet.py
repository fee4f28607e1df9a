from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from tests.bundles.bundle_test_base import Mistake, read_csv, read_json
from tests.bundles.clip_bundle_tests import ClipBundleTests
from tests.bundles.runs import released_copy, run, undone, workflow
from tests.bundles.video_bundle_tests import masks_in
from tests.common.data.video.dataset_files import drawn, write_picture
from tests.common.handlers.video_runs import SIZE, scene

# Parameters of the network that train.json makes with an overlay and ids.
PARAMETERS = [
    ("train", {}, 42_060_884),
    ("train", {"use_csa": "false"}, 40_961_236),
    ("train", {"use_csa": "false", "use_ifa": "false"}, 40_827_555),
    ("unet", {}, 31_113_217),
    ("unetplusplus", {}, 9_119_332),
    ("pnsnet", {}, 9_793_731),
    ("swinunetr", {}, 25_139_275),
    ("unetr", {}, 87_874_801),
]
NEED_EINOPS = ("swinunetr", "unetr")
# What a user reads of these where it is missing.
MISSING_PACKAGE = {
    f"{model} without einops": Mistake(model, {}, [f"model={model}", "einops", "requirements-extra.txt"])
    for model in NEED_EINOPS
    if importlib.util.find_spec("einops") is None
}

# Overlays that make another network or training, and what makes them tiny.
OVERLAYS: Mapping[str, Mapping[str, Any]] = {
    "unet": {"network_def#network#features": [8, 8, 8, 16, 16, 8]},
    "unetplusplus": {"network_def#network#features": [8, 8, 8, 16, 16, 8]},
    "pnsnet": {},
    "clip_unet": {},
    "half_size": {},
    "demo": {},
}


class TestFUnet(ClipBundleTests):
    name = "funet"
    tiny = ClipBundleTests.tiny | {"unet_features": [8, 16]}
    mistakes: Mapping[str, Mistake] = ClipBundleTests.mistakes | {
        "a part of the network that is no boolean": Mistake(
            "inference", {"use_ifa": "1.5"}, ["--use_ifa 1.5", "true or false"]
        ),
        "unknown target of the weights": Mistake("inference", {"ifa_target": "mask"}, ["ifa_target", "logit"]),
        "frames too small": Mistake("train", {"spatial_size": "[16,48]"}, ["FUnet", "at least 32 x 32"]),
        "no weights of the backbone": Mistake("train", {"backbone_weights": "{missing}"}, ["{missing}", "res2net50"]),
    } | MISSING_PACKAGE  # fmt: skip

    @pytest.mark.parametrize(("config", "ids", "count"), PARAMETERS, ids=lambda value: str(value))
    def test_parameters(self, config, ids, count):
        if config in NEED_EINOPS:
            pytest.importorskip("einops")
        with undone():
            made = workflow(self.root, config, **ids)
            made.parser.parse(reset=True)
            network = made.parser.get_parsed_content("network_def")
        assert sum(parameter.numel() for parameter in network.parameters()) == count

    @pytest.mark.parametrize("config", OVERLAYS)
    def test_other_networks_and_smaller_trainings(self, config, dataset, example, scratch):
        """One epoch of each, and its weights segment."""
        ids = {**self.tiny, **OVERLAYS[config]}
        trained = {**self.training, "dataset_dir": str(dataset), "output_dir": str(scratch / "run"), "max_epochs": 1}
        run(self.root, config, **ids | trained)
        ids |= {"checkpoint": str(scratch / "run" / "model.pt"), "input": str(example)}
        run(self.root, f"inference+{config}", **ids, output_dir=str(scratch / "masks"))
        assert masks_in(scratch / "masks", "one")[0].shape == (36, 50)
        (row,) = read_csv(scratch / "run" / "history.csv")
        assert float(row["loss"]) > 0 and row["val_mean_dice"]
        plan = read_json(scratch / "run" / "model.json")
        assert plan["model"] == (config if config not in ("half_size", "demo") else "funet")

    def test_single_frames_first_then_clips(self, released, dataset, scratch):
        """Pre-training on single frames, on still images too, gives weights that a training on clips begins with."""
        for index, picture in enumerate(scene(3, SIZE)):  # with them a last batch of one frame would be left over
            write_picture(scratch / "stills" / "images" / f"{index}.jpg", picture)
            write_picture(scratch / "stills" / "masks" / f"{index}.png", drawn(20, SIZE))
        start = released / "models" / "model.pt"
        ids = {**self.tiny, **self.training, "dataset_dir": str(dataset), "images_dir": str(scratch / "stills")}
        ids |= {"init_checkpoint": str(start), "output_dir": str(scratch / "frames"), "max_epochs": 1}
        run(self.root, "pretrain", **ids)
        split = read_json(scratch / "frames" / "split.json")
        assert (split["frames"], split["images"]) == (1, 3)
        pretrained = scratch / "frames" / "model.pt"
        ids = {"init_checkpoint": str(pretrained), "lr": 0.0, "weight_decay": 0.0, "max_epochs": 1}
        clips = self.train(dataset, scratch / "clips", **ids) / "model.pt"

        before, between, after = (torch.load(path, weights_only=True) for path in (start, pretrained, clips))
        parameters = [name for name in before if "running" not in name and "num_batches" not in name]
        assert all(torch.equal(between[name], after[name]) for name in parameters)
        same = {name for name in parameters if torch.equal(before[name], between[name])}
        assert same == {name for name in parameters if name.startswith("ifa.")}  # there are no frames to weigh

    def test_masks_do_not_depend_on_the_weights_of_frames(self, released, dataset, tmp_path):
        ids = {**self.tiny, "input": str(dataset / "e" / "frames"), "overlay": "false"}
        for weighed in ("true", "false"):
            run(released, "inference", **ids, frame_weights=weighed, output_dir=str(tmp_path / weighed))
        with_them, without = (masks_in(tmp_path / weighed, "frames") for weighed in ("true", "false"))
        assert len(with_them) == 5 and any(mask.any() for mask in with_them)
        np.testing.assert_array_equal(with_them, without)
        tables = [read_csv(tmp_path / weighed / "frames_frames.csv") for weighed in ("true", "false")]
        assert tables[0][0]["mean_probability"] != tables[1][0]["mean_probability"]

    @pytest.mark.parametrize(
        ("of_weights", "said", "used"),
        [
            ({}, {}, True),
            ({"frame_weights": False}, {}, False),
            ({"frame_weights": False}, {"frame_weights": "true"}, True),
        ],
    )
    def test_inference_weighs_frames_as_its_weights_want_it(self, of_weights, said, used, tmp_path):
        """Weights of single frames have no trained weights of frames; a run may say otherwise."""
        (tmp_path / "model.json").write_text(json.dumps(of_weights), encoding="utf-8")
        with undone():
            made = workflow(self.root, "inference", **self.tiny, checkpoint=str(tmp_path / "model.pt"), **said)
            made.parser.parse(reset=True)
            assert made.parser.get_parsed_content("network_arguments") == {"frame_weights": used}

    def test_a_single_frame_is_a_clip_of_itself_everywhere(self, example, scratch):
        """A host and the command line give one mask, also where it matters which of the clip's frames counts."""
        ids = {**self.tiny, "ifa_target": "feature"}
        bundle, (picture,) = released_copy(self.root, scratch / "funet", **ids), example.iterdir()
        probabilities = self.host_inference(bundle, picture, None, **ids)["prob"]
        ids |= {"threshold": float(probabilities.median())}
        pred = self.host_inference(bundle, picture, None, **ids)["pred"]
        run(bundle, "inference", **ids, input=str(example), output_dir=str(scratch / "masks"))
        (written,) = masks_in(scratch / "masks", "one")
        np.testing.assert_array_equal(255 * pred.T.numpy(), written)
        (row,) = read_csv(scratch / "masks" / "one_frames.csv")
        assert float(row["mean_probability"]) == pytest.approx(float(probabilities.mean()), abs=1e-5)

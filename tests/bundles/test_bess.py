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

from common.networks import TwoStage
from tests.bundles.bundle_test_base import Mistake, read_csv, read_json, the_line
from tests.bundles.runs import content_of, equal, files_of, run, run_in_ranks, undone, words, workflow
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
# Parameters of the pipeline that train.json makes with these ids.
RESNET18, UNET = 11_177_025, 3_306_449
PARAMETERS = [({}, RESNET18 + UNET)]
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
    channel_axis = -3
    metrics = ("val_negative_loss", "val_mean_dice")
    table = "frames.csv"
    also_left = ("classifier",)
    training_arguments = ("dropout",)
    mistakes: Mapping[str, Mistake] = VideoBundleTests.mistakes | {
        "empty data": Mistake("train", {"dataset_dir": "{empty}"}, ["{empty}", "holds no labelled frames", "README"]),
        "no negatives": Mistake(
            "train", {"dataset_dir": "{no negatives}"}, ["{no negatives}", "stage 1 cannot be trained", "add negatives"]
        ),
        "no positives": Mistake("train", {"dataset_dir": "{no positives}"}, ["{no positives}", "neither stage"]),
        "a positive without a mask": Mistake(
            "train", {"dataset_dir": "{bare}"}, ["1.png", "is a positive without a mask", "train_classifier.json"]
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
        write_picture(
            shutil.copytree(dataset, folder / "strange") / "b" / "masks" / "001.png", np.zeros((20, 20), np.uint8)
        )
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

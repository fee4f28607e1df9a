"""Label maps of real exams to the network's grid and back; the data are no part of the project."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.transforms import AsDiscreted, Compose, EnsureChannelFirstd, Invertd, LoadImaged

from common.data.label_scheme import LabelScheme
from common.metrics import dice_per_structure, joint_histogram
from common.transforms import CropAnteriorPosteriord, FitToGridd, ValuesToChannelsd

DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "spine"
EXAMS = ("vb1_02", "vb1_17", "vb2_02", "vb3_01", "vb3_49", "ivd_11")
SCHEME = LabelScheme.load("mrspineseg17")


@pytest.mark.skipif(not (DATA / "index.json").is_file(), reason="the real exams are not there (shared/data/spine)")
@pytest.mark.parametrize("exam", EXAMS)
def test_label_map_survives_the_round_trip(exam):
    (case,) = [
        row for row in json.loads((DATA / "index.json").read_text(encoding="utf-8"))["cases"] if row["id"] == exam
    ]
    load = Compose([LoadImaged(["image", "label"]), EnsureChannelFirstd(["image", "label"]),
                    ValuesToChannelsd("label", SCHEME.name)])  # fmt: skip
    item = load({key: DATA / case[key] for key in ("image", "label")})
    to_grid = Compose(
        [
            CropAnteriorPosteriord(["image", "label"]),
            FitToGridd(["image", "label"], (18, 256, 128), ["bilinear", "nearest"]),
        ]
    )
    fitted = to_grid(item)
    fitted["pred"] = MetaTensor(
        F.one_hot(fitted["label"].as_tensor()[0].long(), SCHEME.num_channels).movedim(-1, 0).float()
    )
    back = Compose(
        [
            Invertd("pred", transform=to_grid, orig_keys="image", nearest_interp=False),
            AsDiscreted("pred", argmax=True, dtype=torch.uint8),
        ]
    )(fitted)["pred"]
    reference = item["label"]
    assert back.shape == reference.shape and np.allclose(back.affine, reference.affine, atol=1e-3)
    dice = dice_per_structure(
        joint_histogram(back, reference, SCHEME.num_channels), torch.from_numpy(SCHEME.drawn_channels(case["labelled"]))
    )
    cropped = CropAnteriorPosteriord(["image", "label"])(item)["label"]
    whole = [int((cropped == c).sum()) == int((reference == c).sum()) for c in range(1, SCHEME.num_channels)]
    found = {s.name: float(dice[s.channel - 1]) for s in SCHEME.structures if whole[s.channel - 1]}
    scored = {name: round(score, 3) for name, score in found.items() if score == score}
    assert len(scored) >= 4
    assert min(scored.values()) >= 0.9, scored

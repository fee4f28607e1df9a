"""A bundle whose gate is how bright a frame is, and whose mask is where it is red."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from common.networks import TwoStage

__all__ = ["Brightness", "Redness", "two_stages", "write_bundle"]


class Brightness(nn.Module):
    """One logit: above 0 where the mean intensity is above a half."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(20.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * (x.mean(dim=(1, 2, 3))[:, None] - 0.5)


class Redness(nn.Module):
    """Logits: above 0 where red is above a half."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(30.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * (x[:, :1] - 0.5)


SIZES = {"classifier_size": [8, 8], "segmenter_size": [24, 32]}


def two_stages(threshold: float = 0.5) -> TwoStage:
    network = TwoStage(Brightness(), Redness(), threshold, **SIZES).eval().requires_grad_(False)
    network.mark_trained("classifier")
    network.mark_trained("segmenter")
    return network


def write_bundle(folder: Path, threshold: float = 0.5) -> Path:
    """Write the bundle, with weights in ``models/model.pt``."""
    here = "tests.tools.stream.two_stage_bundle"
    config = {
        "bundle_root": ".",
        "checkpoint": "$@bundle_root + '/models/model.pt'",
        "gate_threshold": threshold,
        "threshold": 0.5,
        "precision": "fp32",
        "device": "cpu",
        "checked": True,
        "arithmetic": {"_target_": "common.engines.Precision", "name": "@precision", "device": "@device"},
        "network": {
            "_target_": "common.networks.TwoStage",
            "classifier": {"_target_": f"{here}.Brightness"},
            "segmenter": {"_target_": f"{here}.Redness"},
            "threshold": "@gate_threshold",
            **SIZES,
        },
        "weights": {
            "_target_": "common.handlers.StrictCheckpointLoader",
            "path": "@checkpoint",
            "network": "@network",
            "device": "@device",
            "complete": True,
        },
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "common.transforms.LoadClipd", "allow_missing_keys": True},
                {"_target_": "common.transforms.NormalizeFramesd", "keys": "image", "normalize": "none"},
                {"_target_": "common.transforms.FramesFirstd", "keys": "image", "channels": 3},
            ],
        },
    }
    for place, content in (("inference", config), ("metadata", {"name": "two stages"})):
        (folder / "configs").mkdir(parents=True, exist_ok=True)
        (folder / "configs" / f"{place}.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "models").mkdir()
    torch.save(two_stages().state_dict(), folder / "models" / "model.pt")
    return folder

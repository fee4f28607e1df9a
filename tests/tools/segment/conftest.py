from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.bundles.runs import ROOT, undone, workflow
from tests.dicom_files import write_slices
from tests.helpers import affine_of, noise, write_nifti

# Settings of tiny networks; all of them belong to the weights.
TINY: dict[str, dict[str, Any]] = {
    "safnet": {"spatial_size": [4, 32, 16]},
    "sshsnet": {
        "spacing": [4.0, 4.0, 8.0], "window_size": [32, 64, 4], "patch_size": [32, 32, 4], "width": 0.0625,
        "layers": [1, 1, 1, 1],
    },
    "funet": {"spatial_size": [32, 48], "frames": 3, "unet_features": [8, 16]},
    "bess": {
        "classifier_width": 0.125, "classifier_size": [24, 32], "segmenter_size": [32, 48], "features": [4, 8],
    },
}  # fmt: skip
SHAPE, AFFINE = (10, 24, 20), affine_of((4, 1.2, 1.3), (0.1, 0.2, 0))


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Callable[[str], Path]:
    """A file of random weights of a tiny network, by the bundle's name, with its settings beside it."""

    @cache
    def made(name: str) -> Path:
        folder = tmp_path_factory.mktemp(f"weights_{name}")
        with undone():
            parser = workflow(ROOT / "bundles" / name, "inference", **TINY[name]).parser
            parser.parse(reset=True)
            torch.manual_seed(0)
            network, plan = (parser.get_parsed_content(key) for key in ("network_def", "plan"))
        for stage in getattr(network, "untrained", list)():
            network.mark_trained(stage)
        torch.save(network.state_dict(), folder / "model.pt")
        (folder / "model.json").write_text(json.dumps(plan), encoding="utf-8")
        return folder / "model.pt"

    return made


@pytest.fixture
def scans(tmp_path) -> Path:
    """A folder with two scans."""
    for number, name in enumerate("ab"):
        write_nifti(tmp_path / "scans" / f"{name}.nii.gz", noise(SHAPE, number) * 100, AFFINE)
    return tmp_path / "scans"


@pytest.fixture
def series(tmp_path) -> Path:
    voxels = (noise(SHAPE) * 1000).astype(np.int16)
    return write_slices(tmp_path / "series", voxels, np.diag([-1.0, -1, 1, 1]) @ AFFINE)

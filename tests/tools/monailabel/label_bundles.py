"""What the server is given in the tests: small copies of the bundles, other projects' bundles, studies."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from PIL import Image

from common.data.phantom import make_spine_phantom
from tests.bundles.runs import ROOT, released_copy, undone, workflow
from tests.common.data.video.dataset_files import write_picture
from tests.common.handlers.video_runs import LEVEL, scene
from tests.helpers import affine_of, noise, write_nifti

# Where the tiny settings of each bundle stand.
SETTINGS = {"bess": "TestBESS", "funet": "TestFUnet", "safnet": "TestSAFNet", "sshsnet": "TestSSHSNet"}
VOLUMES, FRAMES = ("safnet", "sshsnet"), ("funet", "bess")
HEADS = {"safnet": "classifier.bias", "sshsnet": "stage2.head.bias"}
SPACING = (4, 1.2, 1.3)
# Orientation and angles of the scans; the last one is left-handed.
SCANS = {"sagittal": ("PIR", (0, 0, 0)), "oblique": ("RAS", (0.15, -0.2, 0.1)), "left": ("LAS", (0.15, -0.2, 0.1))}


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def change(path: Path, **ids: Any) -> None:
    """Set ids at the top of a configuration that has them."""
    content = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, content | {name: value for name, value in ids.items() if name in content})


def middle(values: torch.Tensor) -> float:
    """A number that about half of the values are below, as far from the nearest of them as can be."""
    ascending = torch.as_tensor(values).flatten().sort().values
    inner = ascending[int(0.4 * len(ascending)) : int(0.6 * len(ascending))]
    at = int(inner.diff().argmax())
    return float(inner[at : at + 2].mean())


def tiny_bundle(name: str, target: Path, image: Path) -> Path:
    """A released copy whose configurations make everything small.

    Its random weights would give nearly all of an image one label: a threshold or biases see to it that they do not.
    """
    tests = getattr(importlib.import_module(f"tests.bundles.test_{name}"), SETTINGS[name])
    bundle = released_copy(ROOT / "bundles" / name, target, **tests.tiny)
    for config in ("train", "inference"):
        change(bundle / "configs" / f"{config}.json", **{**tests.tiny, **tests.training})
    with undone():
        made = workflow(bundle, "inference")
        made.parser.parse(reset=True)
        before, network, inferer = (
            made.parser.get_parsed_content(key) for key in ("preprocessing", "network", "inferer")
        )
    weights = torch.load(bundle / "models" / "model.pt", weights_only=True)
    network.load_state_dict(weights)
    with torch.no_grad():
        scores = inferer(before({"image": str(image)})["image"][None], network.eval())[0]
    if name in FRAMES:
        change(bundle / "configs" / "inference.json", threshold=middle(scores.sigmoid()))
    else:
        bias, means = HEADS[name], (scores if name == "safnet" else scores.log()).flatten(1).mean(dim=1)
        weights[bias] -= means.as_tensor()
        torch.save(weights, bundle / "models" / "model.pt")
    return bundle


def foreign_bundle(target: Path, image: dict[str, Any], before: list[Any], after: list[Any]) -> Path:
    """A bundle in the ways of other projects: a network without weights, its input a number for each voxel or pixel."""
    described = {"inputs": {"image": image}, "outputs": {"pred": {"channel_def": {"0": "background", "1": "Bright"}}}}
    write_json(target / "configs" / "metadata.json", {"version": "1.0", "network_data_format": described})
    config = {
        "bundle_root": ".",
        "network_def": {"_target_": "torch.nn.Identity"},
        "preprocessing": {"_target_": "Compose", "transforms": before},
        "postprocessing": {"_target_": "Compose", "transforms": after},
    }
    write_json(target / "configs" / "inference.json", config)
    (target / "models").mkdir()
    torch.save({}, target / "models" / "model.pt")
    return target


def foreign_volumes(target: Path) -> Path:
    """One with MONAI's Spacingd, to the spacing that the scans have."""
    before = [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "labels": None},
        {"_target_": "Spacingd", "keys": "image", "pixdim": list(SPACING)},
    ]
    after = [
        {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image"},
        {"_target_": "AsDiscreted", "keys": "pred", "threshold": 500.0},
    ]
    return foreign_bundle(target, {"spatial_shape": [8, 8, 8]}, before, after)


def foreign_frames(target: Path) -> Path:
    """One that keeps an axis of channels and floats, as the Model Zoo's for endoscopy."""
    reader = {"_target_": "PILReader", "converter": "$lambda image: image.convert('RGB')"}
    before = [
        {"_target_": "LoadImaged", "keys": "image", "reader": reader},
        {"_target_": "EnsureChannelFirstd", "keys": "image", "channel_dim": -1},
    ]
    after = [{"_target_": "Lambdad", "keys": "pred", "func": "$lambda p: (p.mean(dim=0, keepdim=True) > 128).float()"}]
    return foreign_bundle(target, {"spatial_shape": [8, 8]}, before, after)


def misfit(target: Path) -> Path:
    """One whose weights are another network's."""
    bundle = foreign_volumes(target)
    change(
        bundle / "configs" / "inference.json",
        network_def={"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 1, "kernel_size": 1},
    )
    return bundle


def half_trained(source: Path, target: Path) -> Path:
    """BESS as a training of its second stage alone leaves it."""
    bundle = shutil.copytree(source, target)
    state = torch.load(bundle / "models" / "model.pt", weights_only=True)
    state["stages_trained"][0] = False
    torch.save(state, bundle / "models" / "model.pt")
    return bundle


def write_scans(folder: Path) -> Path:
    """The scans that are segmented: noise, in three orientations."""
    values = (noise((9, 20, 24), seed=3) * 1000).astype(np.int16)
    for name, (code, angles) in SCANS.items():
        write_nifti(folder / f"{name}.nii.gz", values, affine_of(SPACING, angles), code)
    return folder


def write_volumes(folder: Path, scans: Path) -> Path:
    """Studies: the scans, and three phantoms with final labels."""
    shutil.copytree(scans, folder)
    (folder / "labels" / "final").mkdir(parents=True)
    for seed in range(3):
        phantom = make_spine_phantom(seed, shape=(64, 64, 8))
        for array, parent in ((phantom.image, folder), (phantom.label, folder / "labels" / "final")):
            nib.save(nib.Nifti1Image(array, phantom.affine), parent / f"phantom{seed}.nii.gz")
    (folder / "broken.nii.gz").write_bytes(b"no scan")
    return folder


def write_frames(folder: Path) -> Path:
    """Studies: frames of a video, three of them with final labels: two in 0 and 255, one in 0 and 1."""
    for index, picture in enumerate(scene(4, (45, 61))):
        write_picture(folder / f"f{index}.png", picture)
        if index:
            mask = (picture[..., 0] > 255 * LEVEL).astype(np.uint8)
            write_picture(folder / "labels" / "final" / f"f{index}.png", mask if index == 3 else 255 * mask)
    Image.open(folder / "f0.png").save(folder / "still.jpg", quality=95)
    return folder

"""Every network that a bundle's ids can choose, in ONNX and TorchScript beside the original."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from tests.bundles.runs import ROOT
from tests.tools.export.exports import needs_onnx, undone
from tests.tools.export.test_frame_parts import BESS, FUNET
from tools.export.bundle import BundleNetwork
from tools.export.comparison import compare
from tools.export.formats import FORMATS, PartExport

SMALL_UNET = {"network_def#network#features": [8, 8, 8, 16, 16, 8]}
# Bundle, ids, further configuration, package that it needs, parts.
NETWORKS = {
    "resnet34": ("bess", {"classifier": "resnet34"}, None, None, ["classifier"]),
    "mobilenetv3": ("bess", {"classifier": "mobilenetv3", "classifier_width": 1.0}, None, None, ["classifier"]),
    **{
        name: ("bess", {"segmenter": name}, None, None, ["segmenter"])
        for name in ("resunet", "r2unet", "aunet", "aresunet", "ar2unet")
    },
    "segformer_b0": ("bess", {"segmenter": "segformer_b0"}, None, "transformers", ["segmenter"]),
    "unet": ("funet", SMALL_UNET, "unet", None, ["frame"]),
    "unetplusplus": ("funet", SMALL_UNET, "unetplusplus", None, ["frame"]),
    "pnsnet": ("funet", {}, "pnsnet", None, ["frame_decoder"]),
    "clip_unet": ("funet", {}, "clip_unet", None, ["clip"]),
    "unetr": ("funet", {}, "unetr", "einops", ["frame"]),
    "swinunetr": ("funet", {"spatial_size": [64, 64]}, "swinunetr", "einops", ["frame"]),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_and_torchscript(name, tmp_path):
    bundle, ids, overlay, package, parts = NETWORKS[name]
    needs_onnx()
    if package is not None and importlib.util.find_spec(package) is None:
        pytest.skip(f"{name} needs the package {package}")
    root, device = ROOT / "bundles" / bundle, torch.device("cpu")
    files = [str(root / "configs" / f"{overlay}.json")] if overlay else []
    with undone(), torch.no_grad():
        made = BundleNetwork.load(root, None, (BESS if bundle == "bess" else FUNET) | ids, files, random_weights=True)
        chosen = [part for part in made.plan().parts if part.name in parts]
        assert len(chosen) == len(parts)
        for part in chosen:
            export, onnx = PartExport(part, device), FORMATS["onnx"]
            onnx.write(export, tmp_path / "part.onnx")
            for run in (torch.jit.script(part.module), onnx.load(tmp_path / "part.onnx", device)):
                result = compare(export, run, onnx.tolerance)
                assert result.ok and not result.constant, f"{part.name}: {result}"

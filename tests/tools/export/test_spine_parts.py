from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from common.inferers import HybridInferer
from tests.tools.export.exports import check_description, export, needs_onnx, network_of, run_example, words
from tools.export.patch_stage import PatchStage, WholeWindow, WindowStage

SSHSNET = {
    "window_size": [32, 64, 4], "patch_size": [32, 32, 4], "window_strides": [24, 40, 2], "patch_strides": [20, 20, 1],
    "width": 0.0625, "layers": [1, 1, 1, 1], "num_classes": 20,
}  # fmt: skip


def test_safnet(tmp_path, capsys):
    """All four axes are free."""
    needs_onnx()
    given = ["safnet", "--random_weights", "--output", tmp_path / "out", *words({"spatial_size": [4, 32, 16]})]
    assert export(*given, "--formats", "torchscript,onnx") == 0
    content = check_description(tmp_path / "out", {"torchscript", "onnx"})
    (part,) = content["parts"]
    assert part["inputs"][0]["shape"] == ["batch", 1, "slices", "height", "width"]
    assert part["inputs"][0]["multiples_of"] == {"height": 16, "width": 16}
    assert part["outputs"][0]["shape"] == ["batch", 18, "slices", "height", "width"]
    assert content["channels"]["11"] == "L5/S" and "central 0.5 of the front-to-back" in content["preprocessing"][1]
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()[1:3]] == ["ok", "ok"]


@pytest.mark.parametrize("switch", ["aspp", "multiscale_fusion", "self_attention", "high_skip"])
def test_safnets_variants(switch):
    """Each is exported, and its graph gives its numbers on other sizes."""
    made = network_of("safnet", {"spatial_size": [2, 32, 32], switch: switch == "high_skip"})
    (part,) = made.plan().parts
    with torch.no_grad():
        scripted = torch.jit.script(part.module)
        x = torch.randn(1, 1, 3, 16, 32)
        torch.testing.assert_close(scripted(x), part.original(x), rtol=1e-5, atol=5e-6)


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory):
    needs_onnx()
    folder = tmp_path_factory.mktemp("hybrid") / "out"
    given = ["sshsnet", "--random_weights", "--output", folder, "--formats", "onnx", "--parts", "context,segment"]
    assert export(*given, *words(SSHSNET)) == 0
    return network_of("sshsnet", SSHSNET).network, folder


def test_windows_and_patches_without_torch_are_the_bundles_own(hybrid):
    network, folder = hybrid
    content = check_description(folder, {"onnx"})
    # Longer than a window, shorter, and deeper: pads on one axis, several windows on the others.
    volume = torch.randn(44, 60, 5, generator=torch.Generator().manual_seed(5))
    found, _ = run_example("windows", folder, volume)
    names = ("window_size", "window_strides", "patch_size", "patch_strides")
    assert content["constants"] == {name: SSHSNET[name] for name in names}
    expected = HybridInferer(**content["constants"])(volume[None, None], network)
    np.testing.assert_allclose(found, expected[0].numpy(), rtol=0, atol=2e-6)


@pytest.mark.parametrize(("mode", "floor"), [("nearest", False), ("linear", False), ("nearest", True)])
def test_modules_around_the_stages(mode, floor):
    """Patches at odd places, each against the network's own cut; and a window that is its own patch."""
    network = network_of("sshsnet", SSHSNET | {"probability_mode": mode, "floor_starts": floor}).network
    window, (before, after) = torch.randn(1, 1, 64, 64, 6), torch.randn(2, 1, 1, 64, 64, 1)
    starts = torch.tensor([[0, 0, 0], [32, 32, 2], [7, 13, 1], [18, 5, 2]])
    with torch.no_grad():
        context = WindowStage(network)(window, before, after)
        for one, other in zip(context, network.context(window, before, after, False), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=5e-6)
        patches = torch.cat([window[:, :, x : x + 32, y : y + 32, z : z + 4] for x, y, z in starts.tolist()])
        found = PatchStage(network, (32, 32, 4))(patches, *context, starts)
        for one, patch, (x, y, z) in zip(found, patches, starts.tolist(), strict=True):
            cut = tuple(part[..., z : z + 4] for part in context)
            expected = network.segment(patch[None], cut, torch.tensor([[x, x + 32, y, y + 32]]))[0]
            torch.testing.assert_close(one, expected, rtol=1e-5, atol=5e-6)
        torch.testing.assert_close(WholeWindow(network)(window), network(window), rtol=1e-5, atol=5e-6)


def test_the_window_that_is_its_own_patch_has_a_fixed_size():
    part = network_of("sshsnet", SSHSNET).plan().parts[2]
    assert part.described()["inputs"][0]["shape"] == ["batch", 1, 32, 32, 4]
    assert json.dumps(part.described())

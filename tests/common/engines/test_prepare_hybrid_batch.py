from __future__ import annotations

import pytest
import torch

from common.engines import PrepareHybridBatch
from common.networks import DualDeepLab, HybridNet3D, SSHSNet
from common.networks.slice_context import halve_in_plane, slice_triples

SIZE, SLICES, PATCH = (64, 64), 3, 32


@pytest.fixture(scope="module")
def pipeline() -> SSHSNet:
    torch.manual_seed(0)
    stage1 = DualDeepLab(num_classes=4, layers=(1, 1, 1, 1), width=1 / 16)
    stage2 = HybridNet3D(num_classes=4, map_channels=stage1.feature_channels, layers=(1, 1, 1, 1), width=1 / 16)
    return SSHSNet(stage1, stage2)


def batch_of(windows: torch.Tensor, boxes: list[list[int]]) -> dict[str, torch.Tensor]:
    """What the sampler gives of windows (B, 1, H, W, D) whose neighbours are their own outermost slices."""
    patches = torch.stack([windows[..., a:b, c:d, :] for a, b, c, d in boxes], dim=1)
    return {
        "image": patches,
        "label": (patches > 0.5).float(),
        "stack": slice_triples(halve_in_plane(windows), None, None),
        "boxes": torch.tensor(boxes).repeat(len(windows), 1, 1),
        "drawn": torch.tensor([[True, True, False], [True, False, True]])[: len(windows)],
    }


def test_stage_1_sees_the_windows_that_the_sampler_cut(pipeline):
    windows = torch.rand(2, 1, *SIZE, SLICES, generator=torch.Generator().manual_seed(1))
    boxes = [[0, PATCH, 0, PATCH], [16, 16 + PATCH, 32, 32 + PATCH]]
    patches, target, seen, further = PrepareHybridBatch(pipeline)(batch_of(windows, boxes), "cpu")
    assert patches.shape == (4, 1, PATCH, PATCH, SLICES) and further == {}
    torch.testing.assert_close(patches[3], windows[1, :, 16:48, 32:64])
    wanted = pipeline.crop(pipeline.context(windows, None, None, False), torch.tensor(boxes).repeat(2, 1))
    for one, other in zip(seen, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        assert not one.requires_grad
    assert target["label"].shape == patches.shape
    assert target["drawn"].tolist() == [[True, True, False]] * 2 + [[True, False, True]] * 2


def test_stage_2_learns_and_stage_1_does_not(pipeline):
    windows = torch.rand(1, 1, *SIZE, SLICES, generator=torch.Generator().manual_seed(1))
    batch = batch_of(windows, [[0, PATCH, 0, PATCH], [16, 16 + PATCH, 32, 32 + PATCH]])
    patches, _, seen, _ = PrepareHybridBatch(pipeline)(batch, "cpu")
    pipeline.train()
    pipeline.stage2(patches, *seen).square().mean().backward()
    assert all(parameter.grad is None for parameter in pipeline.stage1.parameters())
    assert sum(parameter.grad is not None for parameter in pipeline.stage2.parameters()) > 50

from __future__ import annotations

import pytest
import torch
from torch import nn

from common.networks.light_rfb import LightRFB


@pytest.mark.parametrize(
    ("channels", "parameters"),
    [
        ((1024, 128, 32), 789_829),
        ((512, 128, 24), 305_845),
        ((120, 90, 60), 92_435),
        ((60, 45, 30), 26_420),
        ((30, 17, 5), 5_076),
    ],
    ids=str,
)
def test_parameters(channels: tuple[int, int, int], parameters: int) -> None:
    assert sum(p.numel() for p in LightRFB(*channels).parameters()) == parameters


def test_convolutions() -> None:
    """Kernel, dilation and groups of each branch's convolutions; none has a bias, all keep the size."""
    block = LightRFB(8, 6, 4)
    found = []
    for branch in block.branches:
        found.append(
            [(m.kernel_size[0], m.dilation[0], m.groups) for m in branch.modules() if isinstance(m, nn.Conv2d)]
        )
    mix = (1, 1, 1)
    assert found == [
        [mix, (3, 1, 6)],
        [(3, 1, 6), mix, (3, 3, 6)],
        [(5, 1, 6), mix, (3, 5, 6)],
        [(7, 1, 6), mix, (3, 7, 6)],
    ]
    assert all(m.bias is None for m in block.modules() if isinstance(m, nn.Conv2d))
    assert block(torch.randn(2, 8, 9, 5)).shape == (2, 4, 9, 5)


def test_normalizations_and_activations() -> None:
    block = LightRFB(8, 6, 4)
    momenta = {name: m.momentum for name, m in block.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert {name.split(".")[0]: momentum for name, momentum in momenta.items()} == {
        "reduce": 0.1,
        "branches": 0.01,
        "project": 0.01,
    }
    slopes = [m.num_parameters for m in block.modules() if isinstance(m, nn.PReLU)]
    assert slopes == [6, 1, 1, 1, 1, 1]
    for branch in block.branches:
        assert [type(m) for m in branch[-1].modules()][-1] is nn.BatchNorm2d  # no activation at the end


def test_the_gate_acts_on_the_branches_only() -> None:
    torch.manual_seed(0)
    block, x = LightRFB(8, 6, 4).eval(), torch.randn(2, 8, 9, 5)
    linear, _, back, _ = block.gate
    with torch.no_grad():
        gate = ((back(linear(x.mean((2, 3))).relu()) + 3).clamp(0, 6) / 6)[:, :, None, None]
        reduced = block.reduce(gate * x)
        expected = block.project(torch.cat([x, *(branch(reduced) for branch in block.branches)], dim=1))
        torch.testing.assert_close(block(x), expected)

from __future__ import annotations

import pytest
import torch
from torch import nn

from common.networks.convolution_blocks import RecurrentResidualBlock, RecurrentUnit, ResidualBlock, StandardBlock


def frames(channels: int) -> torch.Tensor:
    return torch.randn((2, channels, 5, 7), generator=torch.Generator().manual_seed(0))


def prepared(block: nn.Module) -> nn.Module:
    """The block in evaluation mode, with normalizations that do something."""
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return block.eval()


def test_standard_block() -> None:
    block = prepared(StandardBlock(3, 4, 8))
    first, second = ([m for m in part.modules() if not list(m.children())] for part in block)
    for part in (first, second):
        assert [type(m) for m in part] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    x = frames(3)
    expected = x
    for module in (*first, *second):
        expected = module(expected)
    torch.testing.assert_close(block(x), expected)
    assert block(x).shape == (2, 8, 5, 7)


def test_residual_block_adds_before_the_last_relu() -> None:
    block, x = prepared(ResidualBlock(3, 4, 8)), frames(3)
    beside = block.convs(x)
    assert (beside < 0).any(), "the convolutions already end in a ReLU"
    torch.testing.assert_close(block(x), (beside + block.shortcut(x)).relu())


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_shared_recurrence(steps: int) -> None:
    unit, x = prepared(RecurrentUnit(4, steps, shared=True)), frames(4)
    expected = unit.first(x)
    for _ in range(steps):
        expected = unit.first(x + expected)
    torch.testing.assert_close(unit(x), expected)


def test_own_weights_for_each_application() -> None:
    unit, x = prepared(RecurrentUnit(4, 2, shared=False)), frames(4)
    second, third = unit.own
    torch.testing.assert_close(unit(x), third(x + second(x + unit.first(x))))


def test_equal_weights_are_shared_weights() -> None:
    shared, own, x = prepared(RecurrentUnit(4, 2, shared=True)), RecurrentUnit(4, 2, shared=False).eval(), frames(4)
    for conv in (own.first, *own.own):
        conv.load_state_dict(shared.first.state_dict())
    torch.testing.assert_close(own(x), shared(x))


def test_recurrent_residual_block() -> None:
    block, x = prepared(RecurrentResidualBlock(3, 4, 2, shared=False)), frames(3)
    entry = block.project(x)
    first, second = block.units
    torch.testing.assert_close(block(x), entry + second(first(entry)))

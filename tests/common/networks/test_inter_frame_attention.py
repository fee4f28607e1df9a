from __future__ import annotations

import pytest
import torch
from torch import nn

from common.networks.inter_frame_attention import InterFrameAttention


@pytest.fixture
def attention() -> InterFrameAttention:
    torch.manual_seed(0)
    return InterFrameAttention(24, 5).eval().requires_grad_(False)


def test_parameters_and_widths(attention) -> None:
    assert sum(p.numel() for p in attention.parameters()) == 133_681
    assert [(head[0].in_features, head[0].out_features, head[2].out_features) for head in attention.heads] == [
        (120, 60, 5),
        (60, 30, 5),
        (30, 5, 5),
        (5, 2, 5),
    ]
    assert isinstance(attention.narrow[3], nn.Identity)


def test_reference(attention) -> None:
    maps = torch.randn(2, 5, 24, 6, 7)
    x, levels = maps.reshape(2, 120, 6, 7), []
    for head, narrow in zip(attention.heads, attention.narrow, strict=True):
        levels.append(x.mean((2, 3)) @ head[0].weight.T)
        levels[-1] = levels[-1].relu() @ head[2].weight.T
        x = narrow(x)
    expected = torch.sigmoid(torch.cat(levels, 1) @ attention.fuse.weight.T + attention.fuse.bias)
    weights = attention(maps)
    torch.testing.assert_close(weights, expected.reshape(2, 5, 1, 1, 1))
    assert (weights > 0).all() and (weights < 1).all()


def test_the_order_of_frames_matters(attention) -> None:
    maps = torch.randn(1, 5, 24, 6, 7)
    assert (attention(maps.roll(1, dims=1)) - attention(maps).roll(1, dims=1)).abs().max() > 1e-3


@pytest.mark.parametrize("frames", [1, 2, 8])
def test_other_lengths(frames: int) -> None:
    attention = InterFrameAttention(24, frames).eval()
    assert attention(torch.randn(2, frames, 24, 4, 4)).shape == (2, frames, 1, 1, 1)


@pytest.mark.parametrize("shape", [(1, 4, 24, 6, 7), (1, 5, 32, 6, 7), (5, 24, 6, 7)])
def test_other_clips_are_refused(attention, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"built for clips of 5 frames, .*\(batch, 5, 24, h, w\), got shape \["):
        attention(torch.zeros(shape))


def test_every_parameter_gets_a_gradient() -> None:
    torch.manual_seed(0)
    attention = InterFrameAttention(24, 5)
    (attention(torch.randn(2, 5, 24, 6, 7)).flatten() * torch.randn(10)).sum().backward()
    assert all(p.grad.any() for p in attention.parameters())

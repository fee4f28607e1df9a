from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from common.networks.channel_self_attention import ChannelSelfAttention


def reference(block: ChannelSelfAttention, tokens: torch.Tensor) -> torch.Tensor:
    """The normalized result of the attention, before the sigmoid, with everything written out."""
    n, c, h, w = tokens.shape
    tokens = tokens.flatten(2).transpose(1, 2)
    q, k, v = F.linear(tokens, block.query_key_value.weight).chunk(3, dim=2)
    width = c // block.heads
    heads = []
    for i in range(block.heads):
        part = slice(i * width, (i + 1) * width)
        scores = q[..., part] @ k[..., part].transpose(1, 2) / width**0.5
        heads.append(scores.softmax(dim=2) @ v[..., part])
    result = F.layer_norm(torch.cat(heads, dim=2), (c,), block.norm.weight, block.norm.bias)
    return result.transpose(1, 2).reshape(n, c, h, w)


def make(*args: object, **kwargs: object) -> ChannelSelfAttention:
    torch.manual_seed(0)
    return ChannelSelfAttention(*args, **kwargs).requires_grad_(False)


@pytest.mark.parametrize(
    ("channels", "grid", "parameters"),
    [(512, (2, 3), 790_528), (256, (4, 7), 204_288), (128, (8, 14), 63_744), (64, (16, 28), 41_088)],
)
def test_parameters_and_shape_in_funet(channels: int, grid: tuple[int, int], parameters: int) -> None:
    block = make(channels, grid)
    assert sum(p.numel() for p in block.parameters()) == parameters
    assert block.position.shape == (1, channels, *grid)
    assert block(torch.randn(2, channels, *grid)).shape == (2, channels, *grid)


def test_reference() -> None:
    block, x = make(16, (3, 5)), torch.randn(2, 16, 3, 5)
    torch.testing.assert_close(block(x), x * reference(block, x + block.position).sigmoid())


def test_position_map_is_not_resized_at_its_own_size(monkeypatch) -> None:
    block, x = make(16, (3, 5)), torch.randn(1, 16, 3, 5)
    monkeypatch.setattr(F, "interpolate", lambda *args, **kwargs: pytest.fail("interpolated"))
    block(x)


def test_position_map_is_resized_at_another_size() -> None:
    block, x = make(16, (3, 5)), torch.randn(1, 16, 6, 4)
    position = F.interpolate(block.position, size=(6, 4), mode="bilinear", align_corners=False)
    torch.testing.assert_close(block(x), x * reference(block, x + position).sigmoid())


def test_large_grids_are_reduced() -> None:
    block = make(8, (20, 70), heads=2, max_grid=32)
    assert [(c.kernel_size, c.stride) for c in block.reduce] == [((3, 3), (2, 2))] * 2
    assert block.position.shape == (1, 8, 5, 18)
    x = torch.randn(1, 8, 20, 70)
    gate = reference(block, block.reduce(x) + block.position)
    gate = F.interpolate(gate, size=(20, 70), mode="bilinear", align_corners=False).sigmoid()
    torch.testing.assert_close(block(x), x * gate)


@pytest.mark.parametrize(("grid", "convolutions"), [((32, 32), 0), ((32, 33), 1), ((64, 1), 1), ((65, 2), 2)])
def test_grids_up_to_the_bound_are_not_reduced(grid: tuple[int, int], convolutions: int) -> None:
    assert len(make(8, grid).reduce) == convolutions


@pytest.mark.parametrize("std", [0.0, 0.02, 1.0])
def test_position_map_starts_normal(std: float) -> None:
    position = make(64, (32, 32), pos_init_std=std).position
    assert position.std().item() == pytest.approx(std, rel=0.05)
    assert position.mean().item() == pytest.approx(0, abs=0.05)


def test_channels_that_no_heads_divide() -> None:
    with pytest.raises(ValueError, match=r"multiple of 8 channels .* got 12"):
        ChannelSelfAttention(12, (2, 2))


def test_every_parameter_gets_a_gradient() -> None:
    torch.manual_seed(0)
    block, x = ChannelSelfAttention(8, (9, 5), max_grid=4), torch.randn(2, 8, 9, 5)
    (block(x) * torch.randn_like(x)).sum().backward()
    assert all(p.grad.any() for p in block.parameters())

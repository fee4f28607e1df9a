from __future__ import annotations

import pytest
import torch

from common.networks.channel_self_attention import ChannelSelfAttention
from common.networks.unet_blocks import ClassicalUNet, Up

WIDTHS = (64, 128, 256, 512, 1024)


@pytest.mark.parametrize(("attention", "parameters"), [(False, 31_056_352), (True, 31_056_352 + 1_099_648)])
def test_parameters_as_the_branch_of_funet(attention: bool, parameters: int) -> None:
    with torch.device("meta"):
        network = ClassicalUNet(32, 32, WIDTHS, (16, 28), attention)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_parameters_of_the_classical_network() -> None:
    """MONAI's BasicUNet of the same widths, which has 31,113,217, has biases before its normalizations."""
    with torch.device("meta"):
        network = ClassicalUNet(3, 1, WIDTHS, (256, 448), attention=False)
    assert sum(p.numel() for p in network.parameters()) == 31_037_633


def test_shapes_as_the_branch_of_funet() -> None:
    with torch.device("meta"):
        network, x = ClassicalUNet(32, 32, WIDTHS, (16, 28)), torch.empty(5, 32, 16, 28)
    sizes = [(16, 28), (8, 14), (4, 7), (2, 3), (1, 1)]
    maps = network.encode(x)
    assert [tuple(m.shape) for m in maps] == [(5, width, *size) for width, size in zip(WIDTHS, sizes, strict=True)]
    positions = [tuple(m.position.shape) for m in network.modules() if isinstance(m, ChannelSelfAttention)]
    levels = list(zip(WIDTHS, sizes, strict=True))[:-1]
    assert positions == [(1, width, *size) for width, size in reversed(levels)]
    assert network.decode(maps).shape == (5, 32, 16, 28)


@pytest.mark.parametrize(
    ("skip_size", "region"), [((4, 6), (0, 0)), ((5, 6), (0, 0)), ((4, 7), (0, 0)), ((7, 9), (1, 1))]
)
def test_up_fills_up_with_zeros(skip_size: tuple[int, int], region: tuple[int, int]) -> None:
    torch.manual_seed(0)
    up = Up(8, torch.nn.Identity()).eval()
    seen = []
    up.convs.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    x, skip = torch.randn(1, 8, 2, 3), torch.randn(1, 4, *skip_size)
    up(x, skip)
    top, left = region
    expected = torch.zeros(1, 4, *skip_size)
    expected[:, :, top : top + 4, left : left + 6] = up.upsample(x)
    assert torch.equal(seen[0], torch.cat([skip, expected], dim=1))


def test_single_frame_with_a_single_deepest_position() -> None:
    network = ClassicalUNet(3, 2, (8, 16, 32), (4, 7))
    with pytest.raises(ValueError, match=r"^a single frame of this size cannot .*use two frames or more"):
        network(torch.randn(1, 3, 4, 7))
    assert network(torch.randn(2, 3, 4, 7)).shape == (2, 2, 4, 7)
    assert network(torch.randn(1, 3, 4, 8)).shape == (1, 2, 4, 8)
    assert network.eval()(torch.randn(1, 3, 4, 7)).shape == (1, 2, 4, 7)


@pytest.mark.parametrize("features", [(8,), (8, 16, 30)])
def test_widths_must_double(features: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="each twice the one before"):
        ClassicalUNet(3, 2, features, (4, 4))

from __future__ import annotations

import io

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from common.networks.deeplab_decoder import DeepLabDecoder

ALIVE_IN_3D = ((2, 2, 1), (4, 4, 2), (6, 6, 3))
# Shapes of low-level and deep map, of one example.
SHAPES = {2: ((6, 24, 20), (8, 6, 5)), 3: ((6, 24, 20, 3), (8, 6, 5, 3))}


def small_decoder(spatial_dims: int, **kwargs: object) -> DeepLabDecoder:
    """With running statistics that are not those of a new network, in evaluation mode."""
    torch.manual_seed(0)
    decoder = DeepLabDecoder(spatial_dims, 8, 6, 5, 4, **{"aspp_rates": (1, 2, 3), **kwargs})
    decoder(*maps(spatial_dims))
    return decoder.eval()


def maps(spatial_dims: int, batch: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, *shape, generator=generator) for shape in SHAPES[spatial_dims]]


@pytest.mark.parametrize(
    ("spatial_dims", "low_level", "deep", "parameters"),
    [(2, (64, 128), (16, 32), 3_169_296), (3, (48, 48, 12), (12, 12, 12), 3_284_496)],
)
def test_parameters_and_shape_of_the_paper(spatial_dims: int, low_level, deep, parameters: int) -> None:
    with torch.device("meta"):
        decoder = DeepLabDecoder(spatial_dims)
        output = decoder(torch.empty(2, 256, *low_level), torch.empty(2, 2048, *deep))
    assert sum(p.numel() for p in decoder.parameters()) == parameters
    assert output.shape == (2, 256, *low_level)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_reference(spatial_dims: int) -> None:
    decoder = small_decoder(spatial_dims)
    low_level, deep = maps(spatial_dims)
    state = decoder.state_dict()
    convolve = (F.conv2d, F.conv3d)[spatial_dims - 2]

    def conv_norm_relu(x: torch.Tensor, name: str) -> torch.Tensor:
        norm = [state[f"{name}.adn.N.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(convolve(x, state[f"{name}.conv.weight"]), *norm).relu()

    def separable(x: torch.Tensor, name: str, rate: int, kernel: tuple[int, ...]) -> torch.Tensor:
        weight = state[f"{name}.0.conv.weight"]
        assert weight.shape[2:] == kernel
        padding = [rate * (size // 2) for size in kernel]
        x = convolve(x, weight, padding=padding, dilation=rate, groups=len(weight))
        return conv_norm_relu(x, f"{name}.1")

    cube, plane = ((3, 3), (3, 3)) if spatial_dims == 2 else ((3, 3, 3), (3, 3, 1))
    branches = [conv_norm_relu(deep, "pyramid.0.branches.0")]
    branches += [separable(deep, f"pyramid.0.branches.{rate}", rate, cube) for rate in (1, 2, 3)]
    mean = deep.mean(tuple(range(2, deep.dim())), keepdim=True)
    branches.append(conv_norm_relu(mean, "pyramid.0.image_level").expand_as(branches[0]))
    y = separable(conv_norm_relu(torch.cat(branches, 1), "pyramid.0.project"), "pyramid.1", 1, cube)
    scale = (4, 4) if spatial_dims == 2 else (4, 4, 1)
    y = F.interpolate(y, scale_factor=scale, mode=("bilinear", "trilinear")[spatial_dims - 2], align_corners=True)
    expected = separable(torch.cat([y, conv_norm_relu(low_level, "reduce")], 1), "fuse", 1, plane)
    with torch.no_grad():
        torch.testing.assert_close(decoder(low_level, deep), expected)


@pytest.mark.parametrize(
    ("size", "rates", "taps"),
    [
        ((16, 32), (12, 24, 36), [9, 3, 1]),
        ((12, 12, 12), (12, 24, 36), [1, 1, 1]),
        ((12, 12, 12), ALIVE_IN_3D, [27, 27, 27]),
    ],
    ids=str,
)
def test_taps_that_reach_into_the_map(size: tuple[int, ...], rates: tuple, taps: list[int]) -> None:
    torch.manual_seed(0)
    pyramid = DeepLabDecoder(len(size), 8, 6, 5, 4, aspp_rates=rates).pyramid
    pyramid(torch.randn(3, 8, *size)).square().sum().backward()
    depthwise = [branch[0].conv.weight for branch in pyramid[0].branches[1:]]
    assert [int(weight.grad.any(dim=0).any(dim=0).sum()) for weight in depthwise] == taps


def test_rates_that_keep_taps_alive_take_the_same_parameters() -> None:
    with torch.device("meta"):
        shapes = [
            {name: value.shape for name, value in DeepLabDecoder(3, aspp_rates=rates).state_dict().items()}
            for rates in ((12, 24, 36), ALIVE_IN_3D)
        ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(("dropout", "same"), [(0.5, False), (0.0, True)])
def test_dropout(dropout: float, same: bool) -> None:
    decoder = small_decoder(2, dropout=dropout).train()
    assert torch.equal(decoder(*maps(2)), decoder(*maps(2))) == same


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_gradients(spatial_dims: int) -> None:
    decoder = small_decoder(spatial_dims).train()
    output = decoder(*maps(spatial_dims, batch=4))
    (output * torch.randn(output.shape)).sum().backward()
    assert [name for name, p in decoder.named_parameters() if not p.grad.isfinite().all() or not p.grad.any()] == []


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_torchscript(spatial_dims: int) -> None:
    decoder, file = small_decoder(spatial_dims), io.BytesIO()
    torch.jit.save(torch.jit.script(decoder), file)
    file.seek(0)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(file)(*maps(spatial_dims)), decoder(*maps(spatial_dims)))


def test_one_example_cannot_be_trained_on() -> None:
    decoder = small_decoder(3)
    with torch.no_grad():
        decoder(*maps(3, batch=1))
    with pytest.raises(ValueError, match="at least 2 examples in training, got 1"):
        decoder.train()(*maps(3, batch=1))


@pytest.mark.parametrize("rates", [(12, 0), ((2, 2),), ((2, 2, -1),)], ids=str)
def test_wrong_rates(rates: tuple) -> None:
    with pytest.raises(ValueError, match="`aspp_rates` to be positive, one number or 3 for each branch"):
        DeepLabDecoder(3, aspp_rates=rates)


def test_only_batch_normalization_and_no_biases() -> None:
    decoder = small_decoder(3)
    assert all(m.bias is None for m in decoder.modules() if isinstance(m, nn.Conv3d))
    norms = [m for m in decoder.modules() if isinstance(m, nn.BatchNorm3d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-5, 0.1)}
    assert len(norms) == 9  # five branches, projection, after it, low level, fusion

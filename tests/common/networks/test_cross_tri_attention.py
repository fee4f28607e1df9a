from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import nn

from common.networks import cross_tri_attention
from common.networks.cross_tri_attention import (
    CrossTriAttention,
    InterChannelAttention,
    InterSliceAttention,
    SpatialCrossAttention,
)
from tests.common.networks.network_test_base import NetworkTests, Shape

SHAPE = (2, 8, 6, 4, 3)
POSITIONS = 6 * 4


def maps(shape: Shape = SHAPE, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def switched_on(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("scale"):
                parameter.fill_(0.5)
    return module


def make(**kwargs: object) -> CrossTriAttention:
    torch.manual_seed(0)
    return switched_on(CrossTriAttention(8, **{"reduction": 4, **kwargs}))


def reference(module: CrossTriAttention, f2: torch.Tensor, f3: torch.Tensor) -> torch.Tensor:
    """Everything written out, positions i j and x y, slices d and e, channels c and b."""
    attended2, attended3 = f2, f3
    if module.spatial is not None:
        q, k, v = (
            torch.einsum("oc,ncijd->noijd", layer.weight[:, :, 0, 0, 0], f2) + layer.bias[:, None, None, None]
            for layer in (module.spatial.query, module.spatial.key, module.spatial.value)
        )
        energies = torch.einsum("ncijd,ncxyd->nijxy", q, k)
        weights = energies.flatten(3).softmax(dim=3).reshape(energies.shape)
        attended3 = f3 + module.spatial.scale * torch.einsum("nijxy,ncxyd->ncijd", weights, v)
    if module.inter_slice is not None:
        energies = torch.einsum("ncijd,ncije->nde", f3, f3)
        weights = (energies.amax(dim=2, keepdim=True) - energies).softmax(dim=2)
        values = f3 if module.inter_slice.values_are_3d else f2
        attended2 = f2 + module.inter_slice.scale * torch.einsum("nde,ncije->ncijd", weights, values)
    merged = torch.cat([attended2, attended3], dim=1) if module.concatenate else attended2 + attended3
    if module.channel is not None:
        energies = torch.einsum("ncijd,nbijd->ncb", merged, merged)
        weights = (energies.amax(dim=2, keepdim=True) - energies).softmax(dim=2)
        merged = merged + module.channel.scale * torch.einsum("ncb,nbijd->ncijd", weights, merged)
    return merged


class Halves(nn.Module):
    """The attention as a network of one input: its first channels are the 2D map, the rest is the 3D map."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__()
        self.attention = CrossTriAttention(8, **kwargs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        f2, f3 = x.chunk(2, dim=1)
        return self.attention(f2, f3)


class TestCrossTriAttention(NetworkTests):
    input_shapes = ((16, 6, 4, 3), (16, 3, 5, 1))
    parameter_count = 2 * (8 + 1) + 8 * (8 + 1) + 3
    # Softmax takes away again what the key's bias adds.
    zero_gradients = (r"attention\.spatial\.key\.bias",)
    wrong_inputs = (
        (lambda: torch.zeros(1, 15, 2, 2, 2), r"two maps of one shape .*got shapes \[1, 8, 2.* and \[1, 7, 2"),
        (lambda: torch.zeros(1, 16, 2, 2), r"two maps of one shape \(batch, channels, h, w, slices\), got shapes"),
    )

    def make_network(self, **kwargs: object) -> Halves:
        return Halves(**kwargs)

    def expected_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape


@pytest.mark.parametrize("switches", list(product([True, False], repeat=3)), ids=str)
@pytest.mark.parametrize("merge", ["concat", "sum"])
@pytest.mark.parametrize("value_from", ["3d", "2d"])
def test_reference(switches: tuple[bool, bool, bool], merge: str, value_from: str) -> None:
    spatial, inter_slice, channel = switches
    module = make(spatial=spatial, inter_slice=inter_slice, channel=channel, merge=merge, value_from=value_from)
    f2, f3 = (x.double() for x in maps())
    module.double()
    output = module(f2, f3)
    assert output.shape[1] == module.out_channels
    torch.testing.assert_close(output, reference(module, f2, f3))
    torch.testing.assert_close(torch.jit.script(module)(f2, f3), output)


@pytest.mark.parametrize("switches", list(product([True, False], repeat=3)), ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_new_module_only_merges(switches: tuple[bool, bool, bool], dtype: torch.dtype) -> None:
    spatial, inter_slice, channel = switches
    f2, f3 = (30 * x.to(dtype) for x in maps())
    for merge, expected in (("concat", torch.cat([f2, f3], dim=1)), ("sum", f2 + f3)):
        module = CrossTriAttention(8, spatial=spatial, inter_slice=inter_slice, channel=channel, merge=merge)
        assert torch.equal(module.to(dtype)(f2, f3), expected)


@pytest.mark.parametrize(
    ("kwargs", "parameters"),
    [
        ({}, 82_243),
        ({"inter_slice": False, "channel": False}, 82_241),
        ({"channel": False, "merge": "sum"}, 82_242),
        ({"spatial": False}, 2),
        ({"spatial": False, "inter_slice": False, "channel": False}, 0),
    ],
    ids=str,
)
def test_parameters_in_the_paper(kwargs: dict, parameters: int) -> None:
    with torch.device("meta"):
        module, f = CrossTriAttention(**kwargs), torch.empty(1, 256, 48, 48, 12)
        channels = 256 if kwargs.get("merge") == "sum" else 512
        assert module(f, f).shape == (1, channels, 48, 48, 12)
    assert sum(p.numel() for p in module.parameters()) == parameters


def loss_and_gradients(module: nn.Module, f2: torch.Tensor, f3: torch.Tensor) -> list[torch.Tensor]:
    f2, f3 = f2.clone().requires_grad_(), f3.clone().requires_grad_()
    output = module(f2, f3)
    (output * torch.linspace(-1, 1, output.numel()).reshape(output.shape)).sum().backward()
    return [output.detach(), f2.grad, f3.grad, *(p.grad for p in module.parameters())]


@pytest.mark.parametrize("block", [1, 5, POSITIONS - 1, POSITIONS])
def test_blocks_change_nothing_but_rounding(block: int) -> None:
    f2, f3 = maps()
    whole, parts = make(), make(block=block)
    torch.testing.assert_close(
        loss_and_gradients(parts, f2, f3), loss_and_gradients(whole, f2, f3), rtol=1e-5, atol=1e-5
    )
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(parts)(f2, f3), whole(f2, f3), rtol=1e-5, atol=1e-5)


def largest_map_kept(module: nn.Module) -> int:
    """The largest number of values of a tensor that is kept for the backward pass."""
    kept = []

    def keep(x: torch.Tensor) -> torch.Tensor:
        kept.append(x.numel())
        return x

    # One slice, so that the map of attention is larger than all else.
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        module(*maps((1, 8, 16, 16, 1)))
    return max(kept)


def test_blocks_keep_no_map_of_attention() -> None:
    assert largest_map_kept(SpatialCrossAttention(8)) == 256 * 256
    assert largest_map_kept(SpatialCrossAttention(8, block=32)) == 8 * 256


def test_large_maps_are_computed_in_blocks(monkeypatch) -> None:
    module, (f2, f3) = make(), maps()
    seen: list[int] = []
    weigh = cross_tri_attention._weigh
    monkeypatch.setattr(cross_tri_attention, "_weigh", lambda q, k, v: seen.append(q.shape[1]) or weigh(q, k, v))
    with torch.no_grad():
        expected = module(f2, f3)
        assert seen == [POSITIONS]
        module.spatial.largest_map = 10 * POSITIONS + 1
        torch.testing.assert_close(module(f2, f3), expected)
    assert seen[1:] == [10, 10, 4]


def test_patches_of_the_paper_are_computed_at_once_and_windows_in_blocks() -> None:
    assert (48 * 48) ** 2 <= SpatialCrossAttention(8).largest_map < (128 * 256) ** 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_changes_nothing(dtype: torch.dtype) -> None:
    f2, f3 = (100 * x for x in maps())
    module = make()
    scripted = torch.jit.script(module)
    with torch.no_grad():
        expected = module(f2, f3)
        with torch.autocast("cpu", dtype=dtype):
            rows = f2.flatten(2)
            low = torch.bmm(rows, rows.transpose(1, 2)).float()
            assert (low - torch.einsum("nci,nbi->ncb", rows.double(), rows.double())).abs().max() > 10, "not large"
            torch.testing.assert_close(module(f2, f3), expected, rtol=0, atol=0)
            assert scripted(f2, f3).isfinite().all()


def test_autocast_changes_no_energies_in_torchscript() -> None:
    """TorchScript cannot switch autocast off: the sums are in double precision, the projections are not."""
    f2, f3 = (100 * x for x in maps())
    module = make(spatial=False)
    with torch.no_grad():
        expected = module(f2, f3)
        with torch.autocast("cpu", dtype=torch.float16):
            torch.testing.assert_close(torch.jit.script(module)(f2, f3), expected)


def test_half_precision_network_sums_in_full_precision() -> None:
    f2, f3 = (x.half() for x in maps())
    module = make().half()
    output = module(100 * f2, 100 * f3)
    assert output.dtype == torch.float16
    assert output.isfinite().all()
    # What half precision has rounded away is the inputs' and the weights', not the sums'.
    torch.testing.assert_close(module(f2, f3).float(), make()(f2.float(), f3.float()), rtol=0.02, atol=0.02)


def test_all_slices_share_the_map_of_attention() -> None:
    """A permutation of the slices permutes the result of in-plane attention, and nothing else."""
    module, (f2, f3) = switched_on(SpatialCrossAttention(8)), maps()
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(module(f2[..., order], f3[..., order]), module(f2, f3)[..., order])


def test_the_slice_least_like_a_slice_counts_most() -> None:
    f3 = torch.ones(1, 8, 6, 4, 3) * torch.tensor([1.0, 1.0, -1.0])
    attended = switched_on(InterSliceAttention())(torch.zeros_like(f3), f3)
    torch.testing.assert_close(attended, 0.5 * torch.ones_like(f3) * torch.tensor([-1.0, -1.0, 1.0]))


@pytest.mark.parametrize("module", [InterSliceAttention(), InterChannelAttention()], ids=lambda m: type(m).__name__)
def test_large_energies(module: nn.Module) -> None:
    f = 1e8 * maps()[0]
    inputs = (f,) if isinstance(module, InterChannelAttention) else (f, f)
    assert switched_on(module)(*inputs).isfinite().all()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"merge": "product"}, r"merges by 'concat' or 'sum', got 'product'"),
        ({"value_from": "3D"}, r"values from '2d' or '3d', got '3D'"),
        ({"block": 0}, r"a `block` of at least one position, got 0"),
        ({"channels": 12}, r"a multiple of 8 channels, got 12"),
    ],
)
def test_wrong_arguments(kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CrossTriAttention(**kwargs)

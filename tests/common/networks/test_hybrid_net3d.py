from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from common.networks.cross_tri_attention import CrossTriAttention
from common.networks.hybrid_net3d import FUSIONS, HybridNet3D
from tests.common.networks.network_test_base import NetworkTests, Shape

SMALL = {"num_classes": 3, "map_channels": 4, "layers": (1, 1, 1, 1), "width": 1 / 8}

# Channels, h, w, slices for one patch of 192 x 192 x 12, by sub-module: the table in the class's docstring.
SHAPES = {
    "encoder.layer1": (256, 48, 48, 12),
    "encoder.layer4": (2048, 12, 12, 12),
    "decoder": (256, 48, 48, 12),
    "adapter": (256, 48, 48, 12),
    "attention": (512, 48, 48, 12),
    "fuse": (256, 48, 48, 12),
    "head": (20, 48, 48, 12),
    "": (20, 192, 192, 12),
}


def small(**kwargs: object) -> HybridNet3D:
    return HybridNet3D(**{**SMALL, **kwargs})


def inputs(batch: int = 2, h: int = 32, w: int = 16, slices: int = 2, seed: int = 0) -> list[torch.Tensor]:
    """Patches, probabilities and maps."""
    generator = torch.Generator().manual_seed(seed)
    patch, logits, maps = (
        torch.randn(shape, generator=generator)
        for shape in ((batch, 1, h, w, slices), (batch, 3, h, w, slices), (batch, 4, h // 4, w // 4, slices))
    )
    return [patch, logits.softmax(dim=1), maps]


def full_size(batch: int = 1, **kwargs: object) -> tuple[HybridNet3D, list[torch.Tensor]]:
    """Network and inputs of the full size, without memory or computation."""
    with torch.device("meta"):
        shapes = ((1, 192, 192, 12), (20, 192, 192, 12), (512, 48, 48, 12))
        return HybridNet3D(**kwargs).eval(), [torch.empty(batch, *shape) for shape in shapes]


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


class OneInput(nn.Module):
    """The network with all it takes made of one tensor: patch, and logits of the 2D network."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__()
        self.network = small(**kwargs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x[:, :1], x[:, 1:].softmax(dim=1), F.avg_pool3d(x, [4, 4, 1]))


class TestHybridNet3D(NetworkTests):
    input_shapes = ((4, 32, 16, 2), (4, 16, 48, 3))
    parameter_count = 234_238
    # The image-level branch is normalized over the batch: of two examples it would give signs.
    training_batch = 4
    # Softmax takes away again what the key's bias adds.
    zero_gradients = (r"network\.attention\.spatial\.key\.bias",)
    wrong_inputs = (
        (lambda: torch.zeros(1, 4, 32, 24, 2), r"expects an input of .* multiples of \[16, 16, 1\], got shape"),
        (lambda: torch.zeros(1, 5, 32, 16, 2), r"expects probabilities of shape \[1, 3, 32, 16, 2\].*\[1, 4, 32,"),
    )

    def make_network(self, **kwargs: object) -> OneInput:
        return OneInput(**kwargs)

    def expected_output_shape(self, input_shape: Shape) -> Shape:
        return (3, *input_shape[1:])

    @pytest.mark.parametrize("fusion", FUSIONS)
    def test_every_fusion_trains_and_scripts(self, fusion: str) -> None:
        network, x = self.prepared_network(fusion=fusion), self.make_input((4, 32, 16, 2), batch=3)
        network(x).square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
        network.eval()
        with torch.no_grad():
            self.assert_same(torch.jit.script(network)(x), network(x))


def test_shapes_in_the_paper() -> None:
    network, x = full_size(batch=2)
    shapes = {}
    for name in SHAPES:
        network.get_submodule(name).register_forward_hook(
            lambda m, i, o, name=name: shapes.update({name: tuple(o.shape)})
        )
    network(*x)
    assert shapes == {name: (2, *shape) for name, shape in SHAPES.items()}


def test_parameters_in_the_paper() -> None:
    network, _ = full_size()
    assert {name: count(part) for name, part in network.named_children()} == {
        "encoder": 27_336_816,
        "decoder": 3_284_496,
        "adapter": 1_179_648 + 512,
        "attention": 82_243,
        "fuse": 1_179_648 + 512,
        "head": 5_140,
    }
    assert count(network) == 33_069_015


@pytest.mark.parametrize(
    ("kwargs", "parameters"),
    [
        ({"fusion": "dual_attention"}, 31_888_854),
        ({"fusion": "concatenation"}, 32_396_436),
        ({"aspp_rates": ((2, 2, 1), (4, 4, 2), (6, 6, 3))}, 33_069_015),
        ({"value_from": "2d", "block": 64}, 33_069_015),
    ],
    ids=str,
)
def test_variants(kwargs: dict, parameters: int) -> None:
    network, x = full_size(**kwargs)
    assert count(network) == parameters
    assert network(*x).shape == (1, 20, 192, 192, 12)


def test_arguments_reach_the_attention() -> None:
    attention = small(value_from="2d", block=7).attention
    assert (attention.spatial.block, attention.inter_slice.values_are_3d) == (7, False)
    dual = small(fusion="dual_attention").attention
    assert (dual.concatenate, dual.channel, dual.spatial is None, dual.inter_slice is None) == (
        False,
        None,
        False,
        False,
    )
    assert small(fusion="concatenation").attention is None


def test_zero_scales_are_concatenation_or_sum() -> None:
    for fusion, switches in (("tri_attention", {}), ("dual_attention", {"merge": "sum"})):
        network = small(fusion=fusion).eval()
        x = inputs()
        with torch.no_grad():
            expected = network(*x)
            network.attention = CrossTriAttention(32, spatial=False, inter_slice=False, channel=False, **switches)
            torch.testing.assert_close(network(*x), expected, rtol=0, atol=0)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_everything_that_goes_in_counts(fusion: str) -> None:
    torch.manual_seed(0)
    network = small(fusion=fusion).eval()
    x = [part.requires_grad_() for part in inputs()]
    network(*x).square().sum().backward()
    assert all(part.grad.any() for part in x)


def test_logits_are_enlarged_in_plane() -> None:
    network, seen = small().eval(), []
    network.head.register_forward_hook(lambda m, i, o: seen.append(o))
    with torch.no_grad():
        logits = network(*inputs(slices=3))
    expected = F.interpolate(seen[0], scale_factor=(4, 4, 1), mode="trilinear", align_corners=True)
    torch.testing.assert_close(logits, expected)


def test_autocast_is_near_full_precision() -> None:
    torch.manual_seed(0)
    network, x = small(), inputs(batch=4)
    network(*x)
    network.eval()
    with torch.no_grad():
        expected = network(*x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = network(*x).float()
    assert (output - expected).abs().max() < 0.1 * expected.abs().max()


def test_learns_patches_by_heart() -> None:
    torch.manual_seed(0)
    network, x = small(dropout=0.0), inputs(batch=4, w=32)
    y = torch.zeros(4, 32, 32, 2, dtype=torch.long)
    y[:, 8:24, :16], y[:, 8:24, 16:] = 1, 2
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(25):
        loss = F.cross_entropy(network(*x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0], losses


def test_training_needs_two_patches() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        small()(*inputs(batch=1))


@pytest.mark.parametrize(
    ("changed", "shape", "message"),
    [
        (1, (2, 3, 32, 16, 1), r"probabilities of shape \[2, 3, 32, 16, 2\] beside its patch, got \[2, 3, 32, 16, 1\]"),
        (2, (2, 4, 32, 16, 2), r"feature maps of shape \[2, 4, 8, 4, 2\] beside its patch, got \[2, 4, 32, 16, 2\]"),
        (2, (1, 4, 8, 4, 2), r"feature maps of shape \[2, 4, 8, 4, 2\] beside its patch, got \[1, 4, 8, 4, 2\]"),
    ],
)
def test_inputs_that_do_not_fit_the_patch(changed: int, shape: Shape, message: str) -> None:
    x = inputs()
    x[changed] = torch.zeros(shape)
    with pytest.raises(ValueError, match=message):
        small()(*x)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"fusion": "tri"}, r"`fusion` to be one of \['tri_attention', 'dual_attention', 'concatenation'\], got 'tri'"),
        ({"width": 0.3}, r"`width` to be a positive multiple of 1/16"),
        ({"aspp_rates": (2, 0)}, r"`aspp_rates` to be positive"),
    ],
)
def test_wrong_arguments(kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**kwargs)

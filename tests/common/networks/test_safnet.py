from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from common.networks import SAFNet
from common.networks.aspp import ASPP
from common.networks.safnet import (
    ChannelAttention,
    FusionBranch,
    Gate,
    MultiScaleFusion,
    PositionAttention,
    ResidualBlock,
    _resize_in_plane,
)
from tests.common.networks.network_test_base import NetworkTests, Shape

BASE = {"aspp": False, "multiscale_fusion": False, "self_attention": False}
SMALL = {"features": (4, 8, 16)}

# Channels, D, H, W for one volume of 18 x 256 x 128, by sub-module: the table in the class's docstring.
SHAPES = {
    "stem": (32, 18, 256, 128),
    "down": (64, 18, 128, 64),
    "low": (128, 18, 64, 32),
    "mid": (128, 18, 32, 16),
    "high.0": (128, 18, 16, 8),
    "high": (128, 18, 16, 8),
    "aspp": (128, 18, 16, 8),
    "position_attention.query": (16, 18, 16, 8),
    "position_attention.key": (16, 18, 16, 8),
    "position_attention.value": (128, 18, 16, 8),
    "position_attention": (128, 18, 16, 8),
    "channel_attention": (128, 18, 16, 8),
    "low_fusion.branches.0": (32, 18, 64, 32),
    "low_fusion": (128, 18, 64, 32),
    "mid_fusion.branches.3": (32, 18, 32, 16),
    "mid_fusion": (128, 18, 32, 16),
    "gate": (128, 1, 1, 1),
    "head": (128, 18, 64, 32),
    "classifier": (18, 18, 64, 32),
    "": (18, 18, 256, 128),
}


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def full_size(**kwargs: object) -> tuple[SAFNet, torch.Tensor]:
    """Network and volume of the full size, without memory or computation."""
    with torch.device("meta"):
        return SAFNet(**kwargs), torch.empty(1, 1, 18, 256, 128)


def randomize(network: nn.Module) -> nn.Module:
    """Evaluation mode, with weights and statistics that are nowhere 0 or 1."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) + 0.1)
    return network.eval()


def capture_head_input(network: SAFNet, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Outputs of the gate, the fusions and the channel attention, and the input of the head."""
    seen = {}
    for name in ("gate", "low_fusion", "mid_fusion", "channel_attention"):
        network.get_submodule(name).register_forward_hook(lambda m, i, o, name=name: seen.update({name: o.clone()}))
    network.head.register_forward_pre_hook(lambda m, i: seen.update({"head": i[0].clone()}))
    with torch.no_grad():
        network(x)
    return seen


class TestSAFNet(NetworkTests):
    input_shapes = ((1, 4, 64, 32), (1, 1, 32, 48), (1, 5, 16, 32))
    parameter_count = 8_049_092
    wrong_inputs = (
        (lambda: torch.zeros(1, 4, 64, 32), r"expects .*\(batch, 1, 3 spatial axes\).*got shape \[1, 4, 64, 32\]"),
        (lambda: torch.zeros(1, 2, 4, 64, 32), r"expects .*\(batch, 1, 3 .*got shape \[1, 2, 4, 64, 32\]"),
        (lambda: torch.zeros(1, 1, 4, 24, 32), r"expects .*multiples of \[1, 16, 16\].*\[1, 1, 4, 24, 32\]"),
        (lambda: torch.zeros(1, 1, 4, 64, 40), r"expects .*multiples of \[1, 16, 16\].*\[1, 1, 4, 64, 40\]"),
    )

    def make_network(self, **kwargs: object) -> SAFNet:
        return SAFNet(**kwargs)

    def expected_output_shape(self, input_shape: Shape) -> Shape:
        return (18, *input_shape[1:])

    def test_shapes_at_full_size(self) -> None:
        network, x = full_size()
        shapes = {}
        for name in SHAPES:
            network.get_submodule(name).register_forward_hook(
                lambda m, i, o, name=name: shapes.update({name: tuple(o.shape)})
            )
        network.head.register_forward_pre_hook(lambda m, i: shapes.update({"concatenation": tuple(i[0].shape)}))
        network(x)
        assert shapes.pop("concatenation") == (1, 3 * 128, 18, 64, 32)
        assert shapes == {name: (1, *shape) for name, shape in SHAPES.items()}

    def test_size_of_the_reading(self) -> None:
        network, x = full_size()
        with FlopCounterMode(display=False) as flops:
            network(x)
        assert flops.get_total_flops() / 2 == pytest.approx(152.8e9, rel=0.01)
        assert flops.get_flop_counts()["SAFNet.head"][torch.ops.aten.convolution] / 2 == pytest.approx(49e9, rel=0.01)
        assert count(network) == pytest.approx(8.05e6, rel=0.01)

    @pytest.mark.parametrize(
        ("kwargs", "parameters"),
        [
            ({"aspp": False}, 6_605_892),
            ({"multiscale_fusion": False}, 7_572_420),
            ({"self_attention": False}, 8_028_466),
            (BASE, 6_108_594),
            ({"high_skip": True}, 8_491_460),
            ({"aspp_rates": (2, 4)}, 8_049_092 - 128 * 128 * 27 - 2 * 128 - 128 * 128),
            ({"in_channels": 3}, 8_049_092 + 2 * 32 * 27),
            ({"out_channels": 20}, 8_049_092 + 2 * (128 + 1)),
        ],
    )
    def test_variants(self, kwargs: dict, parameters: int) -> None:
        network, _ = full_size(**kwargs)
        assert count(network) == parameters
        x = torch.empty(2, kwargs.get("in_channels", 1), 7, 64, 32, device="meta")
        assert network(x).shape == (2, kwargs.get("out_channels", 18), 7, 64, 32)

    @pytest.mark.parametrize(
        "kwargs",
        [
            BASE,
            {"aspp": False},
            {"multiscale_fusion": False},
            {"self_attention": False},
            {"high_skip": True},
            {"aspp_rates": [1]},
            {"norm": "instance"},
            {"norm": ("instance", {"affine": True})},
        ],
        ids=str,
    )
    def test_variants_train_and_script(self, kwargs: dict) -> None:
        torch.manual_seed(0)
        network = SAFNet(**SMALL, **kwargs)
        x = self.make_input((1, 2, 32, 32), batch=2)
        network(x).square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
        network.eval()
        with torch.no_grad():
            self.assert_same(torch.jit.script(network)(x), network(x))

    def test_trains_on_a_batch_of_one(self) -> None:
        SAFNet(**SMALL)(self.make_input((1, 2, 32, 32))).mean().backward()

    @pytest.mark.parametrize("features", [(32, 64), (32, 64, 100)])
    def test_wrong_features(self, features: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"three numbers, the last a multiple of 8, got"):
            SAFNet(features=features)

    def test_classes_do_not_touch_the_rest(self) -> None:
        few, many = self.evaluation_network(**SMALL), SAFNet(**SMALL, out_channels=20).eval()
        state = few.state_dict()
        for name in ("classifier.weight", "classifier.bias"):
            state[name] = torch.cat([state[name], torch.zeros_like(state[name][:2])])
        many.load_state_dict(state)
        x = self.make_input((1, 2, 32, 32))
        with torch.no_grad():
            self.assert_same(many(x)[:, :18], few(x))

    def test_zero_scales_are_no_attention(self) -> None:
        torch.manual_seed(0)
        network, without = SAFNet(**SMALL).eval(), SAFNet(**SMALL, self_attention=False).eval()
        assert {n for n, p in network.named_parameters() if not p.any()} >= {
            "position_attention.scale",
            "channel_attention.scale",
        }
        skipped = without.load_state_dict(network.state_dict(), strict=False)
        assert not skipped.missing_keys
        assert all("_attention." in key for key in skipped.unexpected_keys)
        x = self.make_input((1, 2, 32, 32))
        with torch.no_grad():
            torch.testing.assert_close(network(x), without(x), rtol=0, atol=0)

    def test_new_high_map_and_head_input(self) -> None:
        seen = capture_head_input(self.evaluation_network(**SMALL), self.make_input((1, 2, 64, 32)))
        new_high, low, mid = seen["head"].chunk(3, dim=1)
        upsampled = F.interpolate(seen["mid_fusion"], size=(2, 16, 8), mode="trilinear", align_corners=False)
        self.assert_same(low, seen["low_fusion"])
        self.assert_same(mid, upsampled)
        self.assert_same(new_high, seen["gate"] * seen["low_fusion"] * upsampled)

    def test_high_skip(self) -> None:
        network = self.evaluation_network(**SMALL, high_skip=True)
        seen = capture_head_input(network, self.make_input((1, 2, 64, 32)))
        upsampled = F.interpolate(seen["channel_attention"], size=(2, 16, 8), mode="trilinear", align_corners=False)
        self.assert_same(seen["head"].chunk(4, dim=1)[3], upsampled)

    def test_dilations_are_in_plane(self) -> None:
        network = SAFNet(**SMALL, aspp_rates=(5, 7))
        dilations = {
            name: m.dilation for name, m in network.named_modules() if isinstance(m, nn.Conv3d) and max(m.dilation) > 1
        }
        expected = {f"high.{i}.conv": rate for i, rate in ((2, 2), (3, 4), (4, 8))}
        expected |= {f"aspp.branches.{i}.conv": rate for i, rate in ((1, 5), (2, 7))}
        for fusion in ("low_fusion", "mid_fusion"):
            expected |= {f"{fusion}.branches.{i}.far.conv": rate for i, rate in enumerate((2, 4, 8, 16))}
        assert dilations == {name: (1, rate, rate) for name, rate in expected.items()}

    def test_no_bias_before_normalization(self) -> None:
        biases = {name for name, _ in SAFNet(**SMALL).named_parameters() if name.endswith("conv.bias")}
        assert biases == {"aspp.image_level.conv.bias"}

    def test_no_sums_in_low_precision(self) -> None:
        """Under autocast and in TorchScript the attention of a large map is finite and near the plain result."""
        torch.manual_seed(0)
        x = 40 * torch.randn(1, 16, 4, 8, 8)
        for module in (PositionAttention(16), ChannelAttention()):
            nn.init.constant_(module.scale, 1.0)
            scripted = torch.jit.script(module)
            with torch.no_grad():
                expected = module(x)
                with torch.autocast("cpu", dtype=torch.float16):
                    if isinstance(module, ChannelAttention):
                        plain = torch.bmm(x.flatten(2), x.flatten(2).transpose(1, 2))
                        assert plain.isinf().any(), "the map is not large enough to show anything"
                        torch.testing.assert_close(module(x), expected)
                        torch.testing.assert_close(scripted(x), expected)
                    assert module(x).isfinite().all()
                    assert scripted(x).isfinite().all()
                assert module.half()(x.half()).isfinite().all()

    def test_autocast_is_near_full_precision(self) -> None:
        network = self.evaluation_network(**SMALL)
        x = self.make_input((1, 2, 32, 32))
        with torch.no_grad():
            expected = network(x)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                output = network(x).float()
        assert (output - expected).abs().max() < 0.1 * expected.abs().max()

    def test_learns_one_volume_by_heart(self) -> None:
        torch.manual_seed(0)
        network = SAFNet(out_channels=3, features=(8, 16, 16))
        x = self.make_input((1, 2, 32, 32))
        y = torch.zeros(1, 2, 32, 32, dtype=torch.long)
        y[:, :, 8:24, :16], y[:, :, 8:24, 16:] = 1, 2
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
        losses = []
        for _ in range(20):
            loss = F.cross_entropy(network(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.3 * losses[0], losses


class TestResidualBlock:
    @pytest.mark.parametrize("strides", [1, (1, 2, 2)])
    def test_reference(self, strides) -> None:
        block = randomize(ResidualBlock(3, 5, strides))
        x = torch.randn(2, 3, 3, 8, 6, generator=torch.Generator().manual_seed(0))
        state = block.state_dict()

        def conv_norm(x: torch.Tensor, name: str, **kwargs: object) -> torch.Tensor:
            x = F.conv3d(x, state[f"{name}.conv.weight"], **kwargs)
            norm = [state[f"{name}.adn.N.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
            return F.batch_norm(x, *norm)

        deep = conv_norm(conv_norm(x, "conv1", padding=1).relu(), "conv2", padding=1, stride=strides)
        expected = (deep + conv_norm(x, "shortcut", stride=strides).relu()).relu()
        with torch.no_grad():
            torch.testing.assert_close(block(x), expected)


class TestPositionAttention:
    def test_reference(self) -> None:
        module = randomize(PositionAttention(16))
        x = torch.randn(2, 16, 2, 3, 4, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            q, k, v = (layer(x).flatten(2) for layer in (module.query, module.key, module.value))
            weights = torch.einsum("bcn,bcm->bnm", q, k).softmax(dim=2)
            expected = x + module.scale * torch.einsum("bnm,bcm->bcn", weights, v).reshape(x.shape)
            torch.testing.assert_close(module(x), expected)
            torch.testing.assert_close(torch.jit.script(module)(x), expected)

    def test_identity_at_start(self) -> None:
        module, x = PositionAttention(16), torch.randn(1, 16, 2, 3, 4)
        assert module.scale.shape == (1,)
        torch.testing.assert_close(module(x), x, rtol=0, atol=0)


class TestChannelAttention:
    def test_reference(self) -> None:
        module = randomize(ChannelAttention())
        x = torch.randn(2, 16, 2, 3, 4, generator=torch.Generator().manual_seed(0)) / 4
        weights = torch.einsum("bcdhw,bedhw->bce", x, x).softmax(dim=2)
        expected = x + module.scale * torch.einsum("bce,bedhw->bcdhw", weights, x)
        with torch.no_grad():
            torch.testing.assert_close(module(x), expected)
            torch.testing.assert_close(torch.jit.script(module)(x), expected)

    def test_identity_at_start(self) -> None:
        module, x = ChannelAttention(), torch.randn(1, 16, 2, 3, 4)
        assert module.scale.shape == (1,)
        torch.testing.assert_close(module(x), x, rtol=0, atol=0)


def test_gate_reference() -> None:
    gate = randomize(Gate(8))
    x = torch.randn(2, 8, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    pooled = F.adaptive_avg_pool3d(x, 1).sigmoid()
    with torch.no_grad():
        torch.testing.assert_close(gate(x), pooled + F.conv3d(pooled, gate.value.weight, gate.value.bias))


def test_fusion_adds_in_branches_and_concatenates() -> None:
    fusion = randomize(MultiScaleFusion(8))
    x = torch.randn(1, 8, 2, 16, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = []
        for branch in fusion.branches:
            assert isinstance(branch, FusionBranch)
            reduced = branch.reduce(x)
            expected.append(branch.near(reduced.clone()) + branch.far(reduced.clone()))
        torch.testing.assert_close(fusion(x), torch.cat(expected, dim=1))


@pytest.mark.parametrize(
    ("spatial_dims", "rates"), [(2, (6, 12, 18)), (2, ((1, 3), 2)), (3, (2,)), (3, ((1, 6, 6), (1, 12, 12)))]
)
def test_aspp(spatial_dims: int, rates: tuple) -> None:
    aspp = randomize(ASPP(spatial_dims, 3, 5, rates))
    x = torch.randn((2, 3, 4, 8, 6)[: spatial_dims + 2], generator=torch.Generator().manual_seed(0))
    pooled = {2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}[spatial_dims](x, 1)
    pooled = F.interpolate(aspp.image_level(pooled), size=x.shape[2:])
    with torch.no_grad():
        expected = aspp.project(torch.cat([*(branch(x) for branch in aspp.branches), pooled], dim=1))
        assert len(aspp.branches) == len(rates) + 1
        assert aspp(x).shape == (2, 5, *x.shape[2:])
        torch.testing.assert_close(aspp(x), expected)


def test_resize_in_plane_is_trilinear() -> None:
    x = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    for size in ((10, 12), (17, 9), (5, 6)):
        expected = F.interpolate(x, size=(4, *size), mode="trilinear", align_corners=False)
        torch.testing.assert_close(_resize_in_plane(x, *size), expected)

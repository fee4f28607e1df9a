from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from common.networks.channel_self_attention import ChannelSelfAttention
from common.networks.funet import FUnet
from common.networks.res2net import Res2Net50
from tests.common.networks.network_test_base import NetworkTests, Shape

SMALL = {"frames": 3, "spatial_size": (32, 48), "unet_features": (8, 16)}
FULL = (1, 5, 3, 256, 448)

# Parameters, and shape of the output for a clip of 5 frames of 256 x 448, by sub-module.
PARTS = {
    "features.encoder": (8_671_048, None),
    "features.encoder.conv1": (28_640, (5, 64, 128, 224)),
    "features.encoder.layer1": (214_056, (5, 256, 64, 112)),
    "features.encoder.layer2": (1_229_856, (5, 512, 32, 56)),
    "features.encoder.layer3": (7_198_368, (5, 1024, 16, 28)),
    "features.low_rfb": (305_845, (5, 24, 32, 56)),
    "features.high_rfb": (789_829, (5, 32, 16, 28)),
    "seg_branch": (32_156_000, None),
    "seg_branch.downs.3": (14_159_872, (5, 1024, 1, 1)),
    "seg_branch.ups.0.attention": (790_528, (5, 512, 2, 3)),
    "seg_branch.ups.1.attention": (204_288, (5, 256, 4, 7)),
    "seg_branch.ups.2.attention": (63_744, (5, 128, 8, 14)),
    "seg_branch.ups.3.attention": (41_088, (5, 64, 16, 28)),
    "seg_branch.last": (2_080, (5, 32, 16, 28)),
    "fusion": (4_465, (5, 16, 32, 56)),
    "head": (16, (5, 1, 32, 56)),
    "ifa": (133_681, (1, 5, 1, 1, 1)),
    "": (42_060_884, (1, 5, 1, 256, 448)),
}


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def full_size(**kwargs: object) -> FUnet:
    """A network of the full size, without memory."""
    with torch.device("meta"):
        return FUnet(**kwargs)


class TestFUnet(NetworkTests):
    input_shapes = ((3, 3, 32, 48), (3, 32, 48), (3, 3, 70, 33))
    parameter_count = 9_833_897
    wrong_inputs = (
        (lambda: torch.zeros(3, 32, 48), r"clips of shape .* or frames of shape .* got shape \[3, 32, 48\]"),
        (lambda: torch.zeros(1, 2, 3, 32, 48), r"built for clips of 3 frames, .*got shape \[1, 2, 24, 4, 6\]"),
        (lambda: torch.zeros(1, 3, 1, 32, 48), r"FUnet expects frames with 3 channels.*got shape \[3, 1, 32, 48\]"),
        (lambda: torch.zeros(1, 3, 30, 48), r"at least 32 x 32 pixels, got shape \[1, 3, 30, 48\]"),
    )

    def make_network(self, **kwargs: object) -> FUnet:
        network = FUnet(**{**SMALL, **kwargs})
        if network.use_ifa:
            # With three frames this layer has one unit, which chance may make silent for every input.
            nn.init.constant_(network.ifa.heads[3][0].weight, 0.5)
        return network

    def expected_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-3], 1, *input_shape[-2:])

    def test_parts_at_full_size(self) -> None:
        network, shapes = full_size().eval(), {}
        for name, (_, shape) in PARTS.items():
            if shape is not None:
                network.get_submodule(name).register_forward_hook(
                    lambda m, i, o, name=name: shapes.update({name: tuple(o.shape)})
                )
        with FlopCounterMode(display=False) as flops:
            network(torch.empty(FULL, device="meta"))
        assert shapes == {name: shape for name, (_, shape) in PARTS.items() if shape is not None}
        assert {name: count(network.get_submodule(name)) for name in PARTS} == {n: c for n, (c, _) in PARTS.items()}
        assert flops.get_total_flops() / 2 == pytest.approx(45.71e9, rel=1e-3)

    @pytest.mark.parametrize(
        ("kwargs", "parameters"),
        [
            ({"use_csa": False}, 40_961_236),
            ({"use_csa": False, "use_ifa": False}, 40_827_555),
            ({"ifa_target": "feature"}, 42_060_884),
        ],
        ids=str,
    )
    def test_variants_at_full_size(self, kwargs: dict, parameters: int) -> None:
        network = full_size(**kwargs).eval()
        assert count(network) == parameters
        assert network(torch.empty(FULL, device="meta")).shape == (1, 5, 1, 256, 448)

    def test_no_position_map_is_reduced_or_resized_at_full_size(self) -> None:
        """The learned grids are those of 256 x 448, and none is above the bound of 32."""
        network, grids = full_size().eval(), []
        for module in network.modules():
            if isinstance(module, ChannelSelfAttention):
                assert len(module.reduce) == 0
                module.register_forward_pre_hook(lambda m, i: grids.append(i[0].shape[2:] == m.position.shape[2:]))
        network(torch.empty(FULL, device="meta"))
        assert grids == [True] * 4

    @pytest.mark.parametrize("kwargs", [{"ifa_target": "mask"}, {"frames": 0}], ids=str)
    def test_wrong_arguments(self, kwargs: dict) -> None:
        with pytest.raises(ValueError, match=r"^FUnet expects .* got"):
            self.make_network(**kwargs)

    def test_frame_weights_change_no_mask_at_one_half(self) -> None:
        network = self.evaluation_network()
        x = self.make_input(self.input_shapes[0], batch=2)
        with torch.no_grad():
            weighed, plain = network(x), network(x, frame_weights=False)
            weights = network.weigh(network.encode_frame(x.flatten(0, 1))[0].unflatten(0, (2, 3)))
        assert (plain > 0).any() and (plain < 0).any()
        assert torch.equal(weighed > 0, plain > 0)
        torch.testing.assert_close(weighed, weights * plain)
        assert ((weights > 0) & (weights < 1)).all()

    def test_frame_weights_on_features_change_the_mask(self) -> None:
        network = self.evaluation_network(ifa_target="feature")
        x = self.make_input(self.input_shapes[0], batch=2)
        with torch.no_grad():
            assert not torch.equal(network(x) > 0, network(x, frame_weights=False) > 0)

    def test_targets_agree_without_frame_weights(self) -> None:
        network, other = self.evaluation_network(), self.make_network(ifa_target="feature").eval()
        other.load_state_dict(network.state_dict())
        x = self.make_input(self.input_shapes[0])
        with torch.no_grad():
            torch.testing.assert_close(other(x, frame_weights=False), network(x, frame_weights=False))

    def test_without_ifa_all_weights_are_one(self) -> None:
        network, other = self.evaluation_network(), self.make_network(use_ifa=False).eval()
        unknown = other.load_state_dict(network.state_dict(), strict=False).unexpected_keys
        assert all(name.startswith("ifa.") for name in unknown)
        x = self.make_input((2, 3, 32, 48))  # any number of frames
        with torch.no_grad():
            torch.testing.assert_close(other(x), network(x, frame_weights=False), rtol=0, atol=0)
            assert torch.equal(other.weigh(torch.rand(1, 4, 24, 4, 6)), torch.ones(1, 4, 1, 1, 1))

    def test_single_frame_in_training(self) -> None:
        network = self.make_network().train()
        frame = self.make_input((3, 32, 48))
        for x in (frame, frame.unsqueeze(1)):
            with pytest.raises(ValueError, match="a single frame of this size cannot be trained on"):
                network(x, frame_weights=False)
        assert network(self.make_input((3, 3, 32, 48))).isfinite().all()

    def test_pretrained_backbone(self, tmp_path) -> None:
        torch.manual_seed(5)
        backbone, path = Res2Net50(), tmp_path / "backbone.pth"
        torch.save(backbone.state_dict(), path)
        found = self.make_network(pretrained_path=path).features.encoder.state_dict()
        torch.testing.assert_close(found, backbone.state_dict(), rtol=0, atol=0)
        assert not torch.equal(self.make_network().features.encoder.conv1[0].weight, backbone.conv1[0].weight)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_autocast_is_near_full_precision(self, dtype: torch.dtype) -> None:
        network = self.evaluation_network()
        x = self.make_input(self.input_shapes[0])
        with torch.no_grad():
            expected = network(x)
            with torch.autocast("cpu", dtype=dtype):
                output = network(x).float()
        assert (output - expected).abs().max() < 0.1 * expected.abs().max()

    def test_channels_last(self) -> None:
        network = self.evaluation_network()
        x = self.make_input(self.input_shapes[0], batch=2)
        with torch.no_grad():
            expected = network(x)
            self.assert_same(network.to(memory_format=torch.channels_last)(x), expected)

    def test_learns_one_clip_by_heart(self) -> None:
        network = self.prepared_network()
        x, y = self.make_input((3, 3, 32, 48)), torch.zeros(1, 3, 1, 32, 48)
        y[:, :, :, 8:24, 4:24] = 1
        optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
        losses = []
        for _ in range(6):
            loss = nn.functional.binary_cross_entropy_with_logits(network(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.9 * losses[0], losses

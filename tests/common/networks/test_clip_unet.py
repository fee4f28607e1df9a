from __future__ import annotations

import pytest
import torch

from common.networks.channel_self_attention import ChannelSelfAttention
from common.networks.clip_unet import ClipUNet
from tests.common.networks.network_test_base import NetworkTests, Shape


class TestClipUNet(NetworkTests):
    input_shapes = ((3, 3, 48, 80), (3, 48, 80), (3, 3, 33, 50))
    parameter_count = 192_208
    wrong_inputs = (
        (lambda: torch.zeros(3, 48, 80), r"clips of shape .* or frames of shape .* got shape \[3, 48, 80\]"),
        (lambda: torch.zeros(1, 2, 3, 48, 80), r"built for clips of 3 frames"),
        (lambda: torch.zeros(1, 3, 3, 48, 3), r"ClipUNet expects .*at least 4 x 4 pixels, got shape \[3, 3, 48, 3\]"),
    )

    def make_network(self, **kwargs: object) -> ClipUNet:
        return ClipUNet(**{"frames": 3, "spatial_size": (48, 80), "features": (8, 16, 32), **kwargs})

    def expected_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-3], 1, *input_shape[-2:])

    def test_at_full_size(self) -> None:
        with torch.device("meta"):
            network, x = ClipUNet().eval(), torch.empty(1, 5, 3, 256, 448)
        assert network(x).shape == (1, 5, 1, 256, 448)
        grids = [tuple(m.position.shape[2:]) for m in network.modules() if isinstance(m, ChannelSelfAttention)]
        assert grids == [(16, 28)] * 4

    @pytest.mark.parametrize(
        ("kwargs", "parameters"), [({"use_ifa": False}, 36_644_545), ({"use_ifa": False, "use_csa": False}, 31_037_633)]
    )
    def test_switches_at_full_size(self, kwargs: dict, parameters: int) -> None:
        with torch.device("meta"):
            network = ClipUNet(**kwargs)
        assert sum(p.numel() for p in network.parameters()) == parameters

    def test_frame_weights_change_no_mask_at_one_half(self) -> None:
        network = self.evaluation_network()
        x = self.make_input(self.input_shapes[0])
        with torch.no_grad():
            weighed, plain = network(x), network(x, frame_weights=False)
        assert torch.equal(weighed > 0, plain > 0)
        assert (weighed.abs() < plain.abs()).all()

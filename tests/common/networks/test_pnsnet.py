from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from common.networks.pnsnet import PNSNet
from tests.common.networks.network_test_base import NetworkTests, Shape


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x


class TestPNSNet(NetworkTests):
    input_shapes = ((3, 3, 32, 48), (2, 3, 32, 48), (3, 32, 48))
    parameter_count = 9_793_731 - 2 * 2 * 8 * (16 * 28 - 2 * 3)
    wrong_inputs = (
        (lambda: torch.zeros(3, 32, 48), r"clips of shape .* or frames of shape .* got shape \[3, 32, 48\]"),
        (lambda: torch.zeros(1, 3, 3, 48, 48), r"built for maps of \[2, 3\] positions, got \[3, 3\]"),
        (lambda: torch.zeros(1, 3, 1, 32, 48), r"PNSNet expects frames with 3 channels.*got shape \[3, 1, 32, 48\]"),
    )

    def make_network(self, **kwargs: object) -> PNSNet:
        return PNSNet(**{"frames": 3, "spatial_size": (32, 48), **kwargs})

    def expected_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-3], 1, *input_shape[-2:])

    def test_at_full_size(self) -> None:
        with torch.device("meta"):
            network, x = PNSNet().eval(), torch.empty(1, 5, 3, 256, 448)
        assert sum(p.numel() for p in network.parameters()) == 9_793_731
        with FlopCounterMode(display=False) as flops:
            assert network(x).shape == (1, 5, 1, 256, 448)
        assert flops.get_total_flops() / 2 == pytest.approx(43.78e9, rel=1e-3)

    def test_residuals_around_the_blocks(self) -> None:
        """A = first(F) + F, C = second(A) + A, and F + C goes on; without the blocks F does."""
        network, seen = self.evaluation_network(), []
        network.first, network.second = Times(2), Times(3)
        network.fusion.register_forward_pre_hook(lambda m, args: seen.append(args[1]))
        x = self.make_input(self.input_shapes[0])
        with torch.no_grad():
            high = network.features(x[0])[1]
            network(x)
            network(x, frame_weights=False)
        torch.testing.assert_close(seen[0], (1 + (1 + 3) * (1 + 2)) * high)
        torch.testing.assert_close(seen[1], high)

    def test_frames_see_each_other(self) -> None:
        network = self.evaluation_network()
        x = self.make_input(self.input_shapes[0])
        other = x.clone()
        other[:, 2] = 0
        with torch.no_grad():
            assert not torch.allclose(network(x)[:, 0], network(other)[:, 0], atol=1e-5)
            alone = [network(clip, frame_weights=False)[:, 0] for clip in (x, other)]
        torch.testing.assert_close(alone[0], alone[1])

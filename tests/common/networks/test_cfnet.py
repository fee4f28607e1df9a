from __future__ import annotations

import torch
from torch import nn

from common.networks import CFNet
from common.networks.cfnet import CascadeStage, FocalBlock
from tests.common.networks.network_test_base import NetworkTests, Shape


class TestCFNet(NetworkTests):
    input_shapes = ((1, 3, 32, 48), (1, 1, 16, 16))
    parameter_count = 93_306
    wrong_inputs = (
        (lambda: torch.zeros(1, 2, 3, 32, 32), r"CFNet expects .*batch, 1, .* got shape \[1, 2, 3, 32, 32\]"),
        (lambda: torch.zeros(1, 1, 3, 24, 32), r"multiples of \[1, 16, 16\], got shape \[1, 1, 3, 24, 32\]"),
    )

    def make_network(self, **kwargs: object) -> CFNet:
        return CFNet(**{"out_channels": 6, "features": 8, "stages": 2, **kwargs})

    def expected_output_shape(self, input_shape: Shape) -> Shape:
        return (6, *input_shape[1:])

    def test_at_full_size(self) -> None:
        with torch.device("meta"):
            network, x = CFNet(), torch.empty(1, 1, 18, 256, 128)
        assert network.stem(x).shape == (1, 64, 18, 64, 32) == network.stages(network.stem(x)).shape
        assert network(x).shape == (1, 18, 18, 256, 128)
        assert sum(parameter.numel() for parameter in network.parameters()) == 8_591_026

    def test_a_stage_adds_its_three_scales(self) -> None:
        stage = CascadeStage(4, 1).eval()
        x = torch.randn(1, 4, 2, 8, 8)
        with torch.no_grad():
            fine = stage.fine(x)
            middle = stage.middle(fine)
            coarse = stage.coarse(middle)
            assert (middle.shape[1:], coarse.shape[1:]) == ((8, 2, 4, 4), (16, 2, 2, 2))
            up = [
                stage.from_middle(middle).repeat_interleave(2, 3).repeat_interleave(2, 4),
                stage.from_coarse(coarse).repeat_interleave(4, 3).repeat_interleave(4, 4),
            ]
            torch.testing.assert_close(stage(x), nn.functional.gelu(fine + up[0] + up[1]))

    def test_how_far_a_focal_block_sees(self) -> None:
        """Dilations 2 and 3, one after the other: 5 to each side, in-plane."""
        block = FocalBlock(2).eval()
        x = torch.randn(1, 2, 3, 15, 15)
        other = x.clone()
        other[..., 1, 7, 7] += 1
        with torch.no_grad():
            changed = (block(x) != block(other)).any(dim=1)[0].nonzero()
        assert changed.min(0).values.tolist() == [1, 2, 2] and changed.max(0).values.tolist() == [1, 12, 12]

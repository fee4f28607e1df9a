from __future__ import annotations

import pytest
import torch
from monai.networks.nets import BasicUNet, BasicUNetPlusPlus

from common.networks.per_frame import PerFrame
from tests.common.networks.network_test_base import NetworkTests, Shape

SMALL = {"spatial_dims": 2, "in_channels": 3, "out_channels": 1, "features": (4, 4, 8, 8, 8, 4)}


class TestPerFrame(NetworkTests):
    input_shapes = ((3, 3, 32, 48), (3, 32, 48))
    parameter_count = sum(p.numel() for p in BasicUNet(**SMALL).parameters())
    zero_gradients = (".*bias",)  # those before instance normalization
    wrong_inputs = ((lambda: torch.zeros(3, 32, 48), r"PerFrame expects clips of .* got shape \[3, 32, 48\]"),)

    def make_network(self, **kwargs: object) -> PerFrame:
        return PerFrame(BasicUNet(**SMALL))

    def expected_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-3], 1, *input_shape[-2:])

    def test_frames_are_segmented_alone(self) -> None:
        network, x = self.evaluation_network(), self.make_input((3, 3, 32, 48), batch=2)
        with torch.no_grad():
            expected = torch.stack([torch.stack([network.network(f[None])[0] for f in clip]) for clip in x])
            torch.testing.assert_close(network(x), expected)


@pytest.mark.parametrize("deep_supervision", [False, True])
def test_the_last_of_a_list_counts(deep_supervision: bool) -> None:
    torch.manual_seed(0)
    inner = BasicUNetPlusPlus(**SMALL, deep_supervision=deep_supervision).eval()
    network, x = PerFrame(inner), torch.randn(2, 3, 3, 32, 32)
    with torch.no_grad():
        expected = inner(x.flatten(0, 1))[-1].unflatten(0, (2, 3))
        for found in (network(x), torch.jit.script(network)(x)):
            torch.testing.assert_close(found, expected)

from __future__ import annotations

import torch

from common.networks import DeepLabV3
from tests.common.networks.network_test_base import NetworkTests, Shape


class TestDeepLabV3(NetworkTests):
    input_shapes = ((1, 3, 32, 48), (1, 1, 16, 16))
    parameter_count = 179_130
    wrong_inputs = (
        (lambda: torch.zeros(1, 32, 32), r"DeepLabV3 expects .* got shape \[1, 32, 32\]"),
        (lambda: torch.zeros(1, 1, 3, 32, 40), r"multiples of \[1, 16, 16\], got shape \[1, 1, 3, 32, 40\]"),
    )

    def make_network(self, **kwargs: object) -> DeepLabV3:
        return DeepLabV3(**{"out_channels": 6, "features": (4, 8, 16, 32), "aspp_features": 16, **kwargs})

    def expected_output_shape(self, input_shape: Shape) -> Shape:
        return (6, *input_shape[1:])

    def test_shapes_at_full_size(self) -> None:
        """Output stride 16, in-plane only; the last stage has holes in the place of strides."""
        with torch.device("meta"):
            network, x = DeepLabV3(), torch.empty(1, 1, 18, 256, 128)
        shapes = {}
        for name in ("stem", "encoder.1", "encoder.3", "encoder.5", "encoder.7", "aspp", "classifier"):
            hook = lambda m, i, output, name=name: shapes.update({name: tuple(output.shape[1:])})  # noqa: E731
            network.get_submodule(name).register_forward_hook(hook)
        assert network(x).shape == (1, 18, 18, 256, 128)
        assert shapes == {
            "stem": (32, 18, 128, 64), "encoder.1": (32, 18, 64, 32), "encoder.3": (64, 18, 32, 16),
            "encoder.5": (128, 18, 16, 8), "encoder.7": (256, 18, 16, 8), "aspp": (128, 18, 16, 8),
            "classifier": (18, 18, 16, 8),
        }  # fmt: skip
        dilations = [c.dilation for c in network.encoder[6:].modules() if isinstance(c, torch.nn.Conv3d)]
        assert {(1, 2, 2), (1, 4, 4)} <= set(dilations)
        assert sum(parameter.numel() for parameter in network.parameters()) == 11_390_002

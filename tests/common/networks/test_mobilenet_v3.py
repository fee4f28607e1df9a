from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from common.networks.mobilenet_v3 import MobileNetV3Large

# Channels and stride after each layer of the published table, at 224 x 224.
LAYERS = [
    (16, 2),
    (16, 2),
    (24, 4),
    (24, 4),
    (40, 8),
    (40, 8),
    (40, 8),
    (80, 16),
    (80, 16),
    (80, 16),
    (80, 16),
    (112, 16),
    (112, 16),
    (160, 32),
    (160, 32),
    (160, 32),
    (960, 32),
]


@pytest.mark.parametrize(("classes", "parameters"), [(1, 4_203_313), (1000, 5_483_032)])
def test_parameters(classes: int, parameters: int) -> None:
    """With the 1000 classes of ImageNet it is the published 5.4 million (5.48)."""
    with torch.device("meta"):
        network = MobileNetV3Large(classes)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_layers_and_operations_at_224() -> None:
    with torch.device("meta"):
        network, x = MobileNetV3Large().eval(), torch.empty(1, 3, 224, 224)
    found: list[tuple[int, int]] = []
    for layer in network.features:
        layer.register_forward_hook(lambda m, i, o: found.append((o.shape[1], 224 // o.shape[2])))
    with FlopCounterMode(display=False) as flops:
        network(x)
    assert found == LAYERS
    assert flops.get_total_flops() / 1e9 == pytest.approx(0.431, abs=1e-3)


def test_squeeze_and_excitation_where_published() -> None:
    with torch.device("meta"):
        network = MobileNetV3Large()
    hidden = {
        i: m.out_features
        for i, layer in enumerate(network.features)
        for m in layer.modules()
        if isinstance(m, nn.Linear) and m.out_features < m.in_features
    }
    assert hidden == {4: 24, 5: 32, 6: 32, 11: 120, 12: 168, 13: 168, 14: 240, 15: 240}


def test_activations_where_published() -> None:
    """Hard-swish in the stem, from the eighth layer on and in the head; ReLU between them."""
    with torch.device("meta"):
        network = MobileNetV3Large()
    swish = [any(isinstance(m, nn.Hardswish) for m in layer.modules()) for layer in network.features]
    assert swish == [True, *[False] * 6, *[True] * 10]

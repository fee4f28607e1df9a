from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from common.networks.frame_classifier import FrameClassifier
from tests.common.networks.network_test_base import NetworkTests, Shape


@pytest.mark.parametrize(
    ("name", "parameters", "gflops"),
    [("resnet18", 11_177_921, 3.627), ("resnet34", 21_286_081, 7.326), ("mobilenetv3", 4_203_313, 0.431)],
)
def test_cost_at_224(name: str, parameters: int, gflops: float) -> None:
    with torch.device("meta"):
        network, x = FrameClassifier(name).eval(), torch.empty(1, 3, 224, 224)
    with FlopCounterMode(display=False) as flops:
        assert network(x).shape == (1, 1)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert flops.get_total_flops() / 1e9 == pytest.approx(gflops, abs=1e-3)


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match=r"^FrameClassifier expects `name` .*resnet18, resnet34.* got 'resnet19'"):
        FrameClassifier("resnet19")


class ClassifierTests(NetworkTests):
    input_shapes = ((3, 64, 64), (3, 40, 56))
    wrong_inputs = (
        (lambda: torch.zeros(1, 1, 64, 64), r"input of shape \(batch, 3, .*got shape \[1, 1, 64, 64\]"),
        (lambda: torch.zeros(3, 64, 64), r"got shape \[3, 64, 64\]"),
    )

    def expected_output_shape(self, input_shape: Shape) -> Shape:
        return (1,)


class TestResNet18(ClassifierTests):
    parameter_count = 11_177_921

    def make_network(self, **kwargs: object) -> FrameClassifier:
        return FrameClassifier(**kwargs)


class TestMobileNetV3(ClassifierTests):
    parameter_count = 4_203_313

    def make_network(self, **kwargs: object) -> FrameClassifier:
        return FrameClassifier("mobilenetv3", **kwargs)

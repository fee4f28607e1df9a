from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from common.networks.unet_family import UNetFamily
from tests.common.networks.network_test_base import NetworkTests, Shape

# Per network, in the paper's default: trainable parameters of the encoder's levels from 1 to 4, the merges and the
# decoder blocks from level 1 to 3, and the last convolution.
STAGES = {
    "unet": ((9888, 55776, 222144, 886656), (73920, 295296, 1180416), (27888, 111072, 443328), 65),
    "resunet": ((10144, 64096, 255168, 1018240), (73920, 295296, 1180416), (36144, 143968, 574656), 65),
    "r2unet": ((56000, 224448, 895360, 3576576), (18528, 73920, 295296), (57952, 230592, 919936), 33),
    "aunet": ((9888, 55776, 222144, 886656), (3121, 12385, 49345), (37104, 147936, 590784), 65),
    "aresunet": ((10144, 64096, 255168, 1018240), (3121, 12385, 49345), (49456, 197216, 787648), 65),
    "ar2unet": ((56000, 224448, 895360, 222144), (793, 3121, 12385), (58976, 234688, 936320), 33),
}
# The same for billions of multiplications and additions of the convolutions, at 256 x 256.
GMACS = {
    "unet": ((0.632, 0.906, 0.906, 0.906), (4.832,) * 3, (1.812,) * 3, 0.004),
    "resunet": ((0.645, 1.040, 1.040, 1.040), (4.832,) * 3, (2.349,) * 3, 0.004),
    "r2unet": ((3.630, 3.657, 3.657, 3.657), (1.208,) * 3, (3.758,) * 3, 0.002),
    "aunet": ((0.632, 0.906, 0.906, 0.906), (0.202,) * 3, (2.416,) * 3, 0.004),
    "aresunet": ((0.645, 1.040, 1.040, 1.040), (0.202,) * 3, (3.221,) * 3, 0.004),
    "ar2unet": ((3.630, 3.657, 3.657, 0.226), (0.051, 0.051, 0.050), (3.825,) * 3, 0.002),
}
# Millions of parameters and billions of operations that the paper states (table 5).
TABLE_5 = {
    "unet": (3.3, 46.6),
    "resunet": (3.7, 50.7),
    "r2unet": (6.4, 59.1),
    "aunet": (2.0, 22.5),
    "aresunet": (2.5, 28.1),
    "ar2unet": (2.7, 45.7),
}
# Trainable parameters, parameters with the running statistics, billions of operations of the convolutions.
READINGS = [
    ("unet", {}, 3_306_449, 3_310_865, 46.571),
    ("resunet", {}, 3_652_113, 3_656_529, 50.623),
    ("r2unet", {}, 6_348_641, 6_357_537, 59.005),
    ("aunet", {}, 2_015_204, 2_018_724, 22.416),
    ("aresunet", {}, 2_446_884, 2_450_404, 28.078),
    ("ar2unet", {}, 2_644_268, 2_650_284, 45.602),
    ("unet", {"profile": "prose"}, 3_306_449, 3_310_865, 46.571),
    ("r2unet", {"profile": "prose"}, 2_432_609, 2_435_873, 59.005),
    ("ar2unet", {"profile": "prose"}, 2_082_668, 2_085_484, 52.464),
    ("ar2unet", {"bottleneck": "same"}, 5_998_700, 6_007_148, 52.464),
    ("ar2unet", {"share_recurrent": True}, 1_090_604, 1_093_036, 45.602),
]
SMALL = (8, 16, 32, 64)


def trainable(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def with_statistics(network: nn.Module) -> int:
    statistics = (buffer.numel() for name, buffer in network.named_buffers() if "running" in name)
    return trainable(network) + sum(statistics)


def full_size(name: str, **kwargs: object) -> tuple[UNetFamily, FlopCounterMode]:
    """A network of the paper's size without memory, and the operations of one frame of 256 x 256."""
    with torch.device("meta"):
        network, x = UNetFamily(name, **kwargs).eval(), torch.empty(1, 3, 256, 256)
    with FlopCounterMode(display=False) as flops:
        assert network(x).shape == (1, 1, 256, 256)
    return network, flops


def stages(network: UNetFamily) -> tuple[list[str], list[str], list[str], str]:
    """The sub-modules' names in the order of the tables above; the decoder runs from level 3 to 1."""
    levels = ["decoder.2", "decoder.1", "decoder.0"]
    assert len(network.encoder) == 4 and len(network.decoder) == 3
    return (
        [f"encoder.{i}" for i in range(4)],
        [f"{level}.merge" for level in levels],
        [f"{level}.block" for level in levels],
        "head",
    )


@pytest.mark.parametrize("name", STAGES)
def test_stages_at_full_size(name: str) -> None:
    network, flops = full_size(name)
    for names, counts, gmacs in zip(stages(network), STAGES[name], GMACS[name], strict=True):
        single = isinstance(names, str)
        names, counts, gmacs = ([names], [counts], [gmacs]) if single else (names, list(counts), list(gmacs))
        assert [trainable(network.get_submodule(part)) for part in names] == counts
        found = [sum(flops.get_flop_counts()[f"UNetFamily.{part}"].values()) / 2e9 for part in names]
        assert found == pytest.approx(gmacs, abs=6e-4)


@pytest.mark.parametrize(("name", "kwargs", "parameters", "total", "gflops"), READINGS, ids=str)
def test_readings_at_full_size(name: str, kwargs: dict, parameters: int, total: int, gflops: float) -> None:
    network, flops = full_size(name, **kwargs)
    assert trainable(network) == parameters
    assert with_statistics(network) == total
    assert flops.get_total_flops() / 1e9 == pytest.approx(gflops, abs=1e-3)


@pytest.mark.parametrize("name", TABLE_5)
def test_near_table_5(name: str) -> None:
    network, flops = full_size(name)
    million, gflops = TABLE_5[name]
    assert with_statistics(network) / 1e6 == pytest.approx(million, abs=0.06)
    assert flops.get_total_flops() / 1e9 == pytest.approx(gflops, abs=0.15)


@pytest.mark.parametrize("name", STAGES)
def test_small_network_of_each_name(name: str) -> None:
    network = UNetFamily(name, features=SMALL)
    x = torch.rand(2, 3, 24, 40, generator=torch.Generator().manual_seed(0))
    logits = network(x)
    assert logits.shape == (2, 1, 24, 40)
    logits.square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_dropout_in_training_only() -> None:
    network, x = UNetFamily(features=SMALL, dropout=0.5), torch.rand(2, 3, 16, 16)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


@pytest.mark.parametrize(
    "kwargs",
    [
        {"name": "u2net"},
        {"profile": "table2"},
        {"bottleneck": "none"},
        {"recurrent_steps": 0},
        {"features": (8,)},
        {"features": (8, 18)},
    ],
    ids=str,
)
def test_wrong_arguments(kwargs: dict) -> None:
    with pytest.raises(ValueError, match=rf"^UNetFamily expects .*`{next(iter(kwargs))}`.* got"):
        UNetFamily(**kwargs)


class FamilyTests(NetworkTests):
    input_shapes = ((3, 16, 24), (3, 32, 8))
    wrong_inputs = (
        (lambda: torch.zeros(1, 3, 16, 20), r"multiples of \[8, 8\], got shape \[1, 3, 16, 20\]"),
        (lambda: torch.zeros(1, 1, 16, 16), r"input of shape \(batch, 3, .*got shape \[1, 1, 16, 16\]"),
        (lambda: torch.zeros(3, 16, 16), r"got shape \[3, 16, 16\]"),
    )

    def expected_output_shape(self, input_shape: Shape) -> Shape:
        return (1, *input_shape[1:])


class TestResUNet(FamilyTests):
    parameter_count = 58_019

    def make_network(self, **kwargs: object) -> UNetFamily:
        return UNetFamily("resunet", features=SMALL, **kwargs)


class TestAR2UNet(FamilyTests):
    parameter_count = 167_102

    def make_network(self, **kwargs: object) -> UNetFamily:
        return UNetFamily("ar2unet", features=SMALL, **kwargs)


class TestR2UNetAsDescribed(FamilyTests):
    parameter_count = 153_113

    def make_network(self, **kwargs: object) -> UNetFamily:
        return UNetFamily("r2unet", profile="prose", features=SMALL, **kwargs)

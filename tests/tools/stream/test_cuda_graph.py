from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from common.networks import FUnet
from tests.tools.stream.two_stage_bundle import two_stages
from tools.stream import acceleration
from tools.stream.acceleration import accelerate
from tools.stream.cuda_graph import GraphedStage
from tools.stream.stages import stages_of
from tools.stream.timing import StepTimes

CPU = torch.device("cpu")
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


class Captures:
    """Stands for CUDA: a captured computation writes its output buffers anew when it is replayed."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, compute: Callable[[], Any], _: torch.device) -> tuple[Any, Callable[[], None]]:
        self.count += 1
        outputs = compute()
        flat = outputs if isinstance(outputs, tuple) else (outputs,)

        def replay() -> None:
            again = compute()
            for buffer, value in zip(flat, again if isinstance(again, tuple) else (again,), strict=True):
                buffer.copy_(value)

        return outputs, replay


def test_buffers_are_filled_and_results_are_the_callers():
    captures = Captures()
    graphed = GraphedStage(lambda x, factor: (x * factor, x.sum()), CPU, captures)
    inputs = [torch.full((2, 3), float(value)) for value in range(3)]
    found = [graphed(x, 2) for x in inputs]
    for x, (product, total) in zip(inputs, found, strict=True):
        assert torch.equal(product, 2 * x) and total == x.sum()
    assert captures.count == 1
    assert torch.equal(inputs[0], torch.zeros(2, 3))


def test_a_graph_for_each_shape_and_value():
    captures = Captures()
    graphed = GraphedStage(lambda x, factor: x * factor, CPU, captures)
    for x, factor in ((torch.ones(2), 2), (torch.ones(3), 2), (torch.ones(2), 3), (torch.ones(2).half(), 2)):
        for _ in range(2):
            assert torch.equal(graphed(x, factor), x * factor)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        graphed(torch.ones(2), 2)
    assert captures.count == 5


def test_autocast_is_that_of_the_call():
    captures = Captures()
    weight = torch.randn(4, 4)
    graphed = GraphedStage(lambda x: x @ weight, CPU, captures)
    x = torch.randn(2, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert graphed(x).dtype == torch.bfloat16
    assert graphed(x).dtype == torch.float32


def funet() -> torch.nn.Module:
    torch.manual_seed(0)
    return FUnet(3, spatial_size=(32, 48), unet_features=(8, 16)).eval()


NETWORKS = {"clips": (funet, 2), "two stages": (two_stages, 2), "plain": (lambda: torch.nn.Conv2d(3, 1, 3), 1)}


class SaidToBeCuda:
    """A device that computes on the CPU."""

    type = "cuda"


def logits(
    network: torch.nn.Module, device: torch.device = CPU, dtype: torch.dtype = torch.float32
) -> list[torch.Tensor]:
    stages = stages_of(network, device, dtype, True)
    frames = torch.rand(5, 3, 32, 48, generator=torch.Generator().manual_seed(0)).to(device) + 0.3
    return [stages(frame, StepTimes())[0] for frame in frames]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_parts_of_a_network(name, monkeypatch):
    """Which parts are compiled and captured, and that the stream gives the same through them."""
    make, parts = NETWORKS[name]
    torch.manual_seed(0)
    network = make()
    expected = logits(network)
    compiled: list[str] = []
    captures: list[Captures] = []

    def graphed(part: Callable[..., Any], device: torch.device) -> GraphedStage:
        captures.append(Captures())
        return GraphedStage(part, device, captures[-1])

    monkeypatch.setattr(torch, "compile", lambda part: compiled.append(part.__name__) or part)
    monkeypatch.setattr(acceleration, "GraphedStage", graphed)
    accelerate(network, SaidToBeCuda(), True, True)
    for found, wanted in zip(logits(network), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    assert len(compiled) == len(captures) == parts and all(capture.count == 1 for capture in captures)


@NEEDS_CUDA
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_captured_on_cuda(name, dtype):
    """Replayed, frame after frame, as without graphs; memories of earlier frames are not overwritten."""
    cuda, make = torch.device("cuda"), NETWORKS[name][0]
    torch.manual_seed(0)
    network = make().to(cuda)
    expected = logits(network, cuda, dtype)
    accelerate(network, cuda, False, True)
    for _ in range(2):
        for found, wanted in zip(logits(network, cuda, dtype), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4 if dtype == torch.float32 else 1e-2)

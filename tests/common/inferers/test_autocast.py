from __future__ import annotations

import pytest
import torch

from common.inferers import AutocastInferer


class Spy(torch.nn.Module):
    """A convolution that notes in which type it computed, and what else it was handed."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv3d(1, 2, 3, padding=1)

    def forward(self, x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        out = self.convolution(x)
        self.seen, self.more = out.dtype, (args, kwargs)
        return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_computes_in_the_type_and_returns_single_precision(dtype):
    network, image = Spy(), torch.rand(1, 1, 4, 6, 6)
    found = AutocastInferer(dtype)(image, network)
    assert network.seen == dtype and found.dtype == torch.float32
    plain = network.convolution(image)
    assert torch.allclose(found, plain, atol=2e-2)
    assert torch.equal(found, plain) is (dtype == torch.float32)
    assert not torch.is_autocast_enabled("cpu")


def test_another_network_than_the_engines():
    part, whole, image = Spy(), Spy(), torch.rand(1, 1, 4, 6, 6)
    assert torch.equal(AutocastInferer(network=part)(image, whole), part.convolution(image))
    assert not hasattr(whole, "seen")


def test_single_precision_is_the_default_even_inside_autocast():
    network = Spy()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        AutocastInferer()(torch.rand(1, 1, 4, 4, 4), network)
    assert network.seen == torch.float32


def test_gradients_pass():
    network = Spy()
    AutocastInferer(torch.bfloat16)(torch.rand(1, 1, 4, 4, 4), network).sum().backward()
    gradient = network.convolution.weight.grad
    assert gradient.dtype == torch.float32 and gradient.abs().sum() > 0


def test_more_arguments_are_handed_on():
    network = Spy()
    AutocastInferer()(torch.rand(1, 1, 4, 4, 4), network, 1, key="value")
    assert network.more == ((1,), {"key": "value"})


def test_arguments_of_every_call():
    network = Spy()
    AutocastInferer(arguments={"frame_weights": False})(torch.rand(1, 1, 4, 4, 4), network, key="value")
    assert network.more == ((), {"key": "value", "frame_weights": False})

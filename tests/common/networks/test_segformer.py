from __future__ import annotations

import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from common.networks.segformer import SegFormer


def require_transformers() -> None:
    pytest.importorskip("transformers", reason="the package transformers is not there (tools/requirements-extra.txt)")


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match=r"^SegFormer expects `name` to be one of b0, b1, got 'b5'"):
        SegFormer("b5")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"^SegFormer needs the package transformers; .*requirements-extra\.txt$"):
        SegFormer()


@pytest.mark.parametrize(("name", "million", "gflops"), [("b0", 3.714, 2.650), ("b1", 13.678, 5.195)])
def test_cost_at_224(name: str, million: float, gflops: float) -> None:
    """The operations of the paper's table 5 are those of 224 x 224, although it states 512 x 512 as the input."""
    require_transformers()
    network = SegFormer(name, attention="eager").eval()
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(million, abs=1e-3)
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        assert network(torch.zeros(1, 3, 224, 224)).shape == (1, 1, 224, 224)
    assert flops.get_total_flops() / 1e9 == pytest.approx(gflops, abs=1e-3)


def test_logits_at_full_size() -> None:
    require_transformers()
    torch.manual_seed(0)
    network = SegFormer()
    x = torch.rand(2, 3, 64, 96)
    logits = network(x)
    assert logits.shape == (2, 1, 64, 96)
    logits.square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    network.eval()
    with torch.no_grad():
        torch.testing.assert_close(network(x)[:1], network(x[:1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 3, 64, 16)], ids=str)
def test_wrong_input(shape: tuple[int, ...]) -> None:
    require_transformers()
    with pytest.raises(ValueError, match=r"^SegFormer expects frames of shape .* at least 32 x 32"):
        SegFormer()(torch.zeros(shape))

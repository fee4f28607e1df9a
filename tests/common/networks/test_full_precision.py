from __future__ import annotations

import pytest
import torch
from torch import nn

from common.networks.full_precision import at_least_float32, full_precision, scripted_full_precision


class Product(nn.Module):
    """X X^T, never in low precision."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.jit.is_scripting():
            return self.product(scripted_full_precision(x))
        else:
            with full_precision(x.device.type):
                return self.product(at_least_float32(x))

    def product(self, x: torch.Tensor) -> torch.Tensor:
        return torch.bmm(x, x.transpose(1, 2))


@pytest.mark.parametrize("scripted", [False, True], ids=["eager", "scripted"])
@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16], ids=str)
def test_products_are_in_full_precision(scripted: bool, low: torch.dtype) -> None:
    module = torch.jit.script(Product()) if scripted else Product()
    x = 1000 * torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0))
    expected = torch.einsum("nij,nkj->nik", x.double(), x.double()).float()
    # By turns, as TorchScript might remember what it saw first.
    for _ in range(3):
        assert module(x).dtype == torch.float32
        torch.testing.assert_close(module(x), expected)
        with torch.autocast("cpu", dtype=low):
            assert torch.bmm(x, x.transpose(1, 2)).dtype == low
            torch.testing.assert_close(module(x).float(), expected)
    assert module(x.to(low)).dtype == torch.float32
    assert module(x.double()).dtype == torch.float64

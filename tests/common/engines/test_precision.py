from __future__ import annotations

import pytest
import torch

from common.engines import Precision
from common.errors import InputError


@pytest.mark.parametrize(
    ("name", "device", "dtype", "scaled"),
    [
        ("fp32", "cpu", torch.float32, False),
        ("bf16", "cpu", torch.bfloat16, False),
        ("fp32", "cuda:0", torch.float32, False),
        ("bf16", "cuda", torch.bfloat16, False),
        ("fp16", torch.device("cuda", 1), torch.float16, True),
    ],
)
def test_named(name, device, dtype, scaled):
    precision = Precision(name, device)
    assert (precision.name, precision.dtype, precision.scaled) == (name, dtype, scaled)


def test_auto_on_cpu_is_reproducible(monkeypatch):
    # CPUs with bf16 arithmetic included: its convolutions do not give the same numbers twice
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert Precision("auto", "cpu").name == Precision().name == "fp32"


@pytest.mark.parametrize(
    ("capability", "expected"), [((6, 1), "fp16"), ((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")]
)
def test_auto_on_cuda(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    precision = Precision("auto", "cuda:0")
    assert precision.name == expected and precision.scaled is (expected == "fp16")


def test_auto_elsewhere_is_single_precision():
    assert Precision("auto", "mps").dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "device", "message"),
    [
        ("fp8", "cpu", "--precision fp8: is not known; choose one of auto, fp32, bf16, fp16"),
        ("FP32", "cuda", "--precision FP32: is not known; choose one of auto, fp32, bf16, fp16"),
        ("fp16", "cpu", "--precision fp16: does not run on cpu; choose bf16 or fp32"),
        ("fp16", "mps", "--precision fp16: does not run on mps; choose bf16 or fp32"),
    ],
)
def test_errors(name, device, message):
    with pytest.raises(InputError) as error:
        Precision(name, device)
    assert str(error.value) == message

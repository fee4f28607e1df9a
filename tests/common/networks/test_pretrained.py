from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from common.networks.pretrained import load_pretrained


def module() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    """What an early version of PyTorch would have saved: without the count of batches."""
    torch.manual_seed(1)
    state = module().state_dict()
    return {name: torch.randn(value.shape) for name, value in state.items() if "num_batches" not in name}


def test_loads_what_the_file_holds(weights, tmp_path) -> None:
    torch.save(weights, tmp_path / "weights.pth")
    network = module()
    load_pretrained(network, tmp_path / "weights.pth", "weights")
    assert all(torch.equal(network.state_dict()[name], value) for name, value in weights.items())


def test_translates_names(weights, tmp_path) -> None:
    torch.save({f"theirs.{name}": value for name, value in weights.items()}, tmp_path / "weights.pth")
    network = module()
    load_pretrained(
        network,
        tmp_path / "weights.pth",
        "weights",
        lambda found: {name.removeprefix("theirs."): value for name, value in found.items()},
    )
    assert all(torch.equal(network.state_dict()[name], value) for name, value in weights.items())


@pytest.mark.parametrize(
    "change", [{"0.bias": torch.zeros(4)}, {"2.weight": torch.zeros(1)}, {"0.bias": None}], ids=str
)
def test_refuses_what_does_not_fit_whole(weights, tmp_path, change: dict) -> None:
    path, network = tmp_path / "other.pth", module()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    changed = {name: value for name, value in {**weights, **change}.items() if value is not None}
    torch.save(changed, path)
    name = re.escape(next(iter(change)))
    with pytest.raises(
        ValueError, match=rf"^{re.escape(str(path))}: does not fit \(1 .*first: {name}\); expected a b$"
    ):
        load_pretrained(network, path, "a b")
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


def test_no_file(tmp_path) -> None:
    path = tmp_path / "nowhere.pth"
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: there is no such file; expected a b$"):
        load_pretrained(module(), path, "a b")


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>\n" * 40, os.urandom(500)], ids=len)
def test_another_file(tmp_path, content: bytes) -> None:
    path = tmp_path / "page.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: is not a file of weights .*; expected a b$"):
        load_pretrained(module(), path, "a b")


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"epoch": 3}, torch.zeros(2)], ids=str)
def test_other_contents(tmp_path, content: object) -> None:
    path = tmp_path / "list.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"holds something else than tensors by name; expected a b$"):
        load_pretrained(module(), path, "a b")


class MakesFolder:
    """Pickled so that unpickling it would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


def test_code_in_the_file_is_not_run(tmp_path) -> None:
    path, folder = tmp_path / "evil.pth", tmp_path / "trace"
    torch.save({"0.weight": MakesFolder(folder)}, path)
    with pytest.raises(ValueError, match="is not a file of weights"):
        load_pretrained(module(), path, "a b")
    assert not folder.exists()

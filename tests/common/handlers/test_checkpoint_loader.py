from __future__ import annotations

import logging
import pickle

import pytest
import torch
from torch import nn

from common.errors import InputError
from common.handlers import load_weights


def network(width: int = 4, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv3d(1, width, 3), nn.BatchNorm3d(width), nn.Conv3d(width, 2, 1))


def same(a: nn.Module, b: nn.Module) -> bool:
    other = b.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in a.state_dict().items())


def refused(path, target=None) -> str:
    target = target or network()
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(InputError) as error:
        load_weights(target, path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "wrap", [lambda state: state, lambda state: {"model": state, "epoch": 3}], ids=["bare", "model"]
)
@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "path"])
def test_loads(tmp_path, wrap, kind, caplog):
    trained, fresh = network(seed=1), network(seed=2)
    assert not same(trained, fresh)
    path = tmp_path / "model.pt"
    torch.save(wrap(trained.state_dict()), path)
    with caplog.at_level(logging.INFO):
        load_weights(fresh, kind(path), device=torch.device("cpu"))
    assert same(trained, fresh)
    assert caplog.messages == [f"Weights from {path}"]


def test_missing(tmp_path):
    for path in (tmp_path / "no.pt", tmp_path):
        assert refused(path) == f"{path}: there are no weights; train first, or pass --checkpoint with trained weights"


@pytest.mark.parametrize(
    "content", [b"", b"not weights", b"PK\x03\x04 not a zip", pickle.dumps({"a": print}, protocol=2)], ids=range(4)
)
def test_not_weights(tmp_path, content):
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    found = refused(path)
    assert found.startswith(f"{path}: is not a file of weights (") and found.endswith("); pass a state dict")


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated(tmp_path, share):
    path = tmp_path / "model.pt"
    torch.save(network().state_dict(), path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert refused(path).startswith(f"{path}: is not a file of weights (")


def test_code_in_the_file_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "harm"), "w")

    path = tmp_path / "model.pt"
    torch.save({"model": Evil()}, path)
    assert refused(path) == f"{path}: is not a file of weights (UnpicklingError); pass a state dict"
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "content", [[1, 2], torch.zeros(3), {"0.weight": 3}, {"state": {"a": torch.zeros(1)}}], ids=range(4)
)
def test_something_else(tmp_path, content):
    path = tmp_path / "model.pt"
    torch.save(content, path)
    assert refused(path) == f"{path}: holds something else than tensors by name; pass a state dict"


ADVICE = "pass weights that were trained with the same settings"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda state: state.pop("2.bias"),
            "(1 of 9 tensors are missing or of another shape, 0 are unknown; first: 2.bias)",
        ),
        (
            lambda state: state.update({"extra.weight": torch.zeros(1)}),
            "(0 of 9 tensors are missing or of another shape, 1 are unknown; first: extra.weight)",
        ),
        (
            lambda state: state.update({"0.weight": torch.zeros(4, 1, 3, 3)}),
            "(1 of 9 tensors are missing or of another shape, 0 are unknown; first: 0.weight)",
        ),
        (
            lambda state: state.clear(),
            "(9 of 9 tensors are missing or of another shape, 0 are unknown; first: 0.weight)",
        ),
    ],
    ids=["missing", "unknown", "shape", "empty"],
)
def test_another_network(tmp_path, change, problem):
    path, state = tmp_path / "model.pt", network().state_dict()
    change(state)
    torch.save(state, path)
    assert refused(path) == f"{path}: does not fit this network {problem}; {ADVICE}"


def test_another_width(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(network(width=8).state_dict(), path)
    assert refused(path, network(width=4)) == (
        f"{path}: does not fit this network (7 of 9 tensors are missing or of another shape, 0 are unknown; "
        f"first: 0.weight); {ADVICE}"
    )

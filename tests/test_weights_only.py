"""Files of weights are tensors, never code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.bundle_files import ROOT

# What reads a pickle without torch.load's restriction to tensors. torch.hub's loader goes by torch.load's default, as
# nothing here may: what is downloaded is loaded by torch.load.
_UNPICKLERS = {
    "pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torch.hub", "torch.package",
}  # fmt: skip


def sources() -> list[Path]:
    return sorted(path for part in ("common", "tools") for path in (ROOT / part).rglob("*.py"))


def dotted(node: ast.expr) -> str:
    """The name that is called, as it is written: ``torch.load``."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    return ".".join([node.id, *parts]) if isinstance(node, ast.Name) else ""


def complaints(text: str) -> Iterator[str]:
    """What of a module loads more than tensors."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            names = [f"{module}.{alias.name}".strip(".") for alias in node.names]
            if any(name == bad or name.startswith(f"{bad}.") for name in names for bad in _UNPICKLERS):
                yield f"line {node.lineno}: imports {names[0]}"
            if "torch.load" in names:
                yield f"line {node.lineno}: gives torch.load another name"
        if not isinstance(node, ast.Call):
            continue
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        safe = isinstance(given.get("weights_only"), ast.Constant) and given["weights_only"].value is True
        name = dotted(node.func)
        if name == "torch.load" and not safe:
            yield f"line {node.lineno}: torch.load without weights_only=True"
        if name.endswith("load_state_dict_from_url") and not safe:
            yield f"line {node.lineno}: {name} without weights_only=True"
        if isinstance(pickled := given.get("allow_pickle"), ast.expr) and getattr(pickled, "value", None) is not False:
            yield f"line {node.lineno}: allow_pickle"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_but_tensors_is_loaded(path):
    assert not list(complaints(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", sorted((ROOT / "bundles").glob("*/configs/*.json")), ids=lambda path: path.name)
def test_configurations_load_weights_through_the_shared_code(path):
    """MONAI's ``CheckpointLoader`` would do it too, but what it says of a bad file is a traceback."""
    text = path.read_text(encoding="utf-8")
    assert not [word for word in ("torch.load", "pickle", "CheckpointSaver") if word in text]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("torch.load(path)", "line 1: torch.load without weights_only=True"),
        ("torch.load(path, weights_only=False)", "line 1: torch.load without weights_only=True"),
        ("torch.load(path, weights_only=flag)", "line 1: torch.load without weights_only=True"),
        ("from torch import load", "line 1: gives torch.load another name"),
        ("import pickle", "line 1: imports pickle"),
        ("from pickle import loads", "line 1: imports pickle.loads"),
        ("model_zoo.load_state_dict_from_url(url)", "line 1: model_zoo.load_state_dict_from_url without weights_only"),
        ("np.load(path, allow_pickle=True)", "line 1: allow_pickle"),
    ],
)
def test_it_is_found(text, says):
    (found,) = complaints(text)
    assert found.startswith(says)


def test_what_is_allowed():
    assert not list(
        complaints("torch.load(path, map_location='cpu', weights_only=True)\nnp.load(p, allow_pickle=False)")
    )

from __future__ import annotations

import json

import pytest

from common.data.weight_parts import join_parts, parts_list, split_into_parts
from common.errors import InputError

DATA = bytes(range(256)) * 10


@pytest.fixture
def weights(tmp_path):
    """Weights of 2560 bytes of which only the parts are there."""
    (tmp_path / "whole").write_bytes(DATA)
    written = split_into_parts(tmp_path / "whole", tmp_path / "model.pt", 1000)
    assert [path.name for path in written] == [
        "model.pt.part00", "model.pt.part01", "model.pt.part02", "model.pt.parts.json",
    ]  # fmt: skip
    assert [path.stat().st_size for path in written[:-1]] == [1000, 1000, 560]
    return tmp_path / "model.pt"


def test_they_are_joined_once(weights):
    assert join_parts(weights) and weights.read_bytes() == DATA
    weights.write_bytes(b"of a training since")
    assert not join_parts(weights) and weights.read_bytes() == b"of a training since"


def test_weights_that_have_no_parts(tmp_path):
    assert not join_parts(tmp_path / "model.pt") and not (tmp_path / "model.pt").exists()


def change_list(weights, **entries):
    listing = parts_list(weights)
    listing.write_text(json.dumps(json.loads(listing.read_text(encoding="utf-8")) | entries), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda w: w.with_name("model.pt.part01").unlink(),
         "model.pt.part01: is not there, though model.pt.parts.json lists it; restore it from the repository"),
        (lambda w: w.with_name("model.pt.part02").write_bytes(b"x" * 560),
         "model.pt.part02: has another SHA-256 than model.pt.parts.json says; restore it from the repository"),
        (lambda w: change_list(w, sha256="0" * 64), "model.pt.parts.json: lists parts that do not make model.pt"),
        (lambda w: change_list(w, parts=[]), "model.pt.parts.json: names no files beside it; restore"),
        (lambda w: change_list(w, parts=[{"file": "../x", "sha256": ""}]), "model.pt.parts.json: names no files"),
        (lambda w: change_list(w, parts=7), "model.pt.parts.json: is no list of parts; restore"),
        (lambda w: parts_list(w).write_text("{", encoding="utf-8"), "model.pt.parts.json: is no list of parts"),
    ],
)  # fmt: skip
def test_whole_or_not_at_all(weights, spoil, line):
    spoil(weights)
    before = sorted(path.name for path in weights.parent.iterdir())
    with pytest.raises(InputError) as error:
        join_parts(weights)
    assert str(error.value).startswith(f"{weights.parent}/{line}") and "\n" not in str(error.value)
    assert sorted(path.name for path in weights.parent.iterdir()) == before

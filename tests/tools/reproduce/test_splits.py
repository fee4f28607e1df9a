from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from common.data.phantom import write_spine_phantoms
from common.errors import InputError
from tools.reproduce.plan import Options
from tools.reproduce.splits import SPLITS, Splits, check_leaks, read_splits, store_splits
from tools.reproduce.tables import TABLES

FOLDS = {
    0: {"train": ["b", "c"], "validation": [], "test": ["a"]},
    1: {"train": ["a"], "validation": ["c"], "test": ["b"]},
}
GOOD = Splits(FOLDS, {"a": "A", "b": "B", "c": "C"}, {"a": ["1"], "b": ["2"], "c": ["3"]})


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    write_spine_phantoms(folder, 5, 0)
    return folder


def options(folder: Path, **given: object) -> Options:
    return Options(**{"output": folder, "bundles": Path("bundles"), "dataset_dir": folder, "folds": [0, 1], **given})


def test_a_good_division():
    check_leaks(GOOD)
    assert GOOD.never_tested == ["c"]


@pytest.mark.parametrize(
    ("spoilt", "says"),
    [
        (replace(GOOD, subjects={"a": "A", "b": "B", "c": "A"}), "fold 0: c (train) and a (test) are of one subject"),
        (
            replace(GOOD, files={"a": ["1"], "b": ["2"], "c": ["3", "1"]}),
            "c (train) and a (test) hold the same picture",
        ),
        (
            replace(GOOD, folds={**FOLDS, 1: {"train": [], "validation": [], "test": ["b", "a"]}}),
            "fold 1: tests a, as fold 0 does",
        ),
    ],
)
def test_leaks(spoilt, says):
    with pytest.raises(InputError) as error:
        check_leaks(spoilt)
    assert says in str(error.value)


def test_folds_beside_one_test_part():
    """As BESS's: the same test part for all folds."""
    folds = {
        0: {"train": ["b"], "validation": ["c"], "test": ["a"]},
        1: {"train": ["c"], "validation": ["b"], "test": ["a"]},
    }
    check_leaks(replace(GOOD, folds=folds))


def test_the_bundles_own_division(phantoms):
    splits = read_splits(TABLES["safnet-comparison"], options(phantoms, ids={"num_validation": "0"}))
    assert set(splits.folds) == {0, 1} and len(splits.subjects) == 5
    for parts in splits.folds.values():
        assert sorted(parts["train"] + parts["validation"] + parts["test"]) == sorted(splits.subjects)
    assert len({name for names in splits.files.values() for name in names}) == 5
    check_leaks(splits)


def test_the_same_scan_under_two_names(phantoms, tmp_path):
    shutil.copytree(phantoms, tmp_path / "data")
    listing = tmp_path / "data" / "index.json"
    cases = json.loads(listing.read_text(encoding="utf-8"))["cases"]
    shutil.copy(tmp_path / "data" / cases[0]["image"], tmp_path / "data" / cases[1]["image"])
    listing.write_text(json.dumps({"cases": [case | {"fold": at} for at, case in enumerate(cases)]}), encoding="utf-8")
    splits = read_splits(TABLES["safnet-comparison"], options(tmp_path / "data", ids={"num_validation": "0"}))
    with pytest.raises(InputError, match="hold the same picture; give both the same subject"):
        check_leaks(splits)


def test_what_lies_there_has_to_be_the_same(tmp_path):
    store_splits(replace(GOOD, folds={0: FOLDS[0]}), tmp_path)
    store_splits(GOOD, tmp_path)
    stored = json.loads((tmp_path / SPLITS).read_text(encoding="utf-8"))
    assert set(stored["folds"]) == {"0", "1"} and stored["list_sha256"] == GOOD.list_sha256
    with pytest.raises(InputError, match="holds runs on another data set"):
        store_splits(replace(GOOD, files={**GOOD.files, "a": ["9"]}), tmp_path)
    with pytest.raises(InputError, match="holds runs with another division"):
        store_splits(replace(GOOD, folds={0: FOLDS[1]}), tmp_path)


def test_no_data(tmp_path):
    with pytest.raises(InputError, match=str(tmp_path)):
        read_splits(TABLES["safnet-comparison"], options(tmp_path))

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from common.data import split_cases, splits
from common.errors import InputError

PARTS = ("train", "validation", "test")


def single(count: int) -> list[dict]:
    return [{"id": f"c{i:03d}", "subject": f"s{i:03d}", "image": f"c{i:03d}.nii"} for i in range(count)]


def several(sizes) -> list[dict]:
    """Subjects with that many cases each."""
    return [
        {"id": f"s{s:02d}_{i}", "subject": f"s{s:02d}", "image": f"s{s:02d}_{i}.nii"}
        for s, size in enumerate(sizes)
        for i in range(size)
    ]


def stated(folds) -> list[dict]:
    return [case | {"fold": fold} for case, fold in zip(single(len(folds)), folds, strict=True)]


def ids(part) -> list[str]:
    return [case["id"] for case in part]


def split(cases, fold=0, **options) -> dict[str, list[str]]:
    parts = split_cases(cases, fold, **options)
    assert tuple(parts) == PARTS
    return {name: ids(part) for name, part in parts.items()}


SETS = {
    "single": single(23),
    "several": several([5, 1, 1, 3, 2, 2, 1, 4, 1, 1]),
    "stated": stated([0, 1, 2, 3, 4] * 4),
    "one each": single(5),
}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("seed", [0, 3])
class TestEveryDivision:
    def test_every_case_is_in_one_part_and_held_out_once(self, name, seed):
        cases, held_out = SETS[name], Counter()
        for fold in range(5):
            parts = split(cases, fold, seed=seed)
            assert sorted(parts["train"] + parts["validation"] + parts["test"]) == sorted(ids(cases))
            held_out.update(parts["validation"] + parts["test"])
            assert parts["train"] and parts["validation"]
        assert held_out == Counter(ids(cases))

    def test_no_subject_is_in_two_parts(self, name, seed):
        for fold in range(5):
            parts = split_cases(SETS[name], fold, seed=seed)
            subjects = [{case["subject"] for case in part} for part in parts.values()]
            assert sum(map(len, subjects)) == len(set().union(*subjects))

    def test_is_deterministic_whatever_the_order(self, name, seed):
        cases = SETS[name]
        for fold in range(5):
            parts = split(cases, fold, seed=seed)
            assert parts == split(cases[::-1], fold, seed=seed) == split(cases, str(fold), seed=str(seed))
            assert all(part == sorted(part) for part in parts.values())


def test_the_papers_172_cases():
    sizes = []
    for fold in range(5):
        parts = split(single(172), fold)
        assert len(parts["validation"]) == 4
        sizes.append(len(parts["validation"]) + len(parts["test"]))
        assert len(parts["train"]) == 172 - sizes[-1]
    assert sizes == [35, 35, 34, 34, 34]


def test_seeds_differ():
    assert len({tuple(split(single(40), seed=seed)["train"]) for seed in range(4)}) == 4
    # where the folds are stated, the seed still chooses who validates
    cases = stated([0, 1, 2, 3, 4] * 8)
    parts = [split(cases, seed=seed) for seed in range(4)]
    assert len({tuple(p["train"]) for p in parts}) == 1
    assert len({tuple(p["validation"]) for p in parts}) > 1


def test_shuffle_is_not_the_order_of_the_names():
    held_out = split(single(40), 0)
    assert sorted(held_out["validation"] + held_out["test"]) != ids(single(40))[:8]
    assert held_out["validation"] != sorted(held_out["validation"] + held_out["test"])[:4]


def test_parts_stay_balanced_with_many_cases_of_one_subject():
    cases = several([9, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    held_out = [len(p["validation"]) + len(p["test"]) for p in (split(cases, fold) for fold in range(5))]
    assert sorted(held_out) == [7, 7, 8, 8, 9]


@pytest.mark.parametrize(
    ("held_out", "wanted", "validation"), [(20, 4, 4), (20, 7, 7), (6, 4, 3), (2, 4, 1), (1, 4, 1), (8, 0, 8)]
)
def test_number_of_validation_cases(held_out, wanted, validation):
    cases = stated([0] * held_out + [1] * 5)
    parts = split(cases, 0, num_folds=2, num_validation=wanted)
    assert len(parts["validation"]) == validation and len(parts["test"]) == held_out - validation


def test_validation_takes_whole_subjects():
    cases = [case | {"fold": 0} for case in several([3, 3, 3, 3])]
    cases += [{"id": "t", "subject": "t", "image": "t.nii", "fold": 1}]
    parts = split(cases, 0, num_folds=2, num_validation=4)
    assert len(parts["validation"]) == 3 and len(parts["test"]) == 9


def test_stated_folds_are_kept():
    cases = stated([0, 0, 1, 1, 2, 2])
    for fold in range(3):
        parts = split(cases, fold, num_folds=3)
        assert sorted(parts["validation"] + parts["test"]) == ids(cases)[2 * fold : 2 * fold + 2]
    # one statement counts for the whole subject
    cases = [case | ({"fold": 1 if case["subject"] == "s00" else 0} if case["id"].endswith("_0") else {})
             for case in several([3, 2, 1])]  # fmt: skip
    assert split(cases, 0, num_folds=2)["train"] == ["s00_0", "s00_1", "s00_2"]


def test_entries_are_kept_and_copied():
    cases = [case | {"labelled": [1, 2]} for case in single(5)]
    part = split_cases(cases, 0)["train"][0]
    assert part["labelled"] == [1, 2] and set(part) == {"id", "subject", "image", "labelled"}
    part["id"] = "other"
    assert "other" not in ids(cases)


@pytest.mark.parametrize(
    ("cases", "options", "message"),
    [
        (single(9), {"fold": 5}, "fold=5: is not one of the 5 folds; pass --fold 0 to 4"),
        (single(9), {"fold": -1}, "fold=-1: is not one of the 5 folds; pass --fold 0 to 4"),
        (single(4), {"fold": 0}, "dataset_dir: has 4 subjects for 5 folds; pass a smaller --num_folds"),
        (several([8, 9]), {"fold": 0}, "dataset_dir: has 2 subjects for 5 folds; pass a smaller --num_folds"),
        (
            [case | {"fold": i} for i, case in enumerate(several([2, 1, 1]))],
            {"fold": 0, "num_folds": 3},
            "s00_1.nii: subject 's00' is in folds 0 and 1; put all cases of a subject into one fold",
        ),
        (
            [*stated([0, 1]), {"id": "z", "subject": "z", "image": "z.nii"}],
            {"fold": 0, "num_folds": 2},
            "z.nii: has no 'fold' although other cases have; give every case a fold",
        ),
        (
            stated([0, 1, 2, 5, -1]),
            {"fold": 0, "num_folds": 3},
            "datalist: has folds [-1, 5] outside 0..2; pass the right --num_folds",
        ),
        (
            stated([0, 0, 1, 1]),
            {"fold": 2, "num_folds": 3},
            "fold=2: leaves no cases to train on or to hold out; choose another fold",
        ),
        (
            single(3),
            {"fold": 0, "num_folds": 1},
            "fold=0: leaves no cases to train on or to hold out; choose another fold",
        ),
    ],
)
def test_errors(cases, options, message):
    with pytest.raises(InputError) as error:
        split_cases(cases, **options)
    assert str(error.value) == message


class TestPublishedFolds:
    """MRSpineSeg's labelled cases have published lists."""

    HELD_OUT = json.loads(Path(splits.__file__).with_name("mrspineseg_folds.json").read_text(encoding="utf-8"))[
        "held_out"
    ]

    def cases(self, numbers, name="Case{}"):
        return [{"id": name.format(n), "image": f"{n}.nii.gz", "subject": name.format(n)} for n in numbers]

    def test_the_lists_are_172_cases_in_five_disjoint_parts(self):
        assert [len(part) for part in self.HELD_OUT] == [35, 35, 34, 34, 34]
        assert len(set().union(*self.HELD_OUT)) == 172
        # one from the beginning, the middle and the end of each list, as published
        assert [(part[0], part[9], part[-1]) for part in self.HELD_OUT] == [
            (2, 71, 215), (12, 89, 214), (9, 45, 213), (6, 55, 204), (5, 67, 198)
        ]  # fmt: skip

    @pytest.mark.parametrize("name", ["Case{}", "case{}"])
    def test_they_are_used_for_cases_of_these_names(self, name):
        numbers = sorted(set().union(*self.HELD_OUT))
        for fold in range(5):
            parts = split_cases(self.cases(numbers, name), fold=fold)
            heldout = {int(case["id"][4:]) for case in parts["validation"] + parts["test"]}
            assert heldout == set(self.HELD_OUT[fold])
            assert len(parts["validation"]) == 4

    def test_not_for_cases_without_a_published_label(self):
        assert splits.published_folds(self.cases([2, 12, 9, 6, 5])) is not None
        assert splits.published_folds(self.cases([2, 12, 9, 6, 5, 1])) is None
        assert splits.published_folds(self.cases([2, 12, 9, 6, 5], "patient{}")) is None


def test_a_file_listed_for_two_subjects_is_a_leak():
    cases = [{"id": f"c{i}", "image": "same.nii.gz", "subject": f"s{i}", "fold": i % 2} for i in range(4)]
    with pytest.raises(InputError, match=r"same\.nii\.gz: its image 'same\.nii\.gz' is in the train part and in the"):
        split_cases(cases, fold=0, num_folds=2)

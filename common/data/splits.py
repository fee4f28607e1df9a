"""Folds by subject, deterministic."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from common.errors import InputError

__all__ = ["split_cases"]


def _folds_of_subjects(cases: Sequence[Mapping[str, Any]], num_folds: int, seed: int) -> dict[str, int]:
    """Give each subject a fold: the one that its cases state, else by a seeded shuffle into parts of equal size."""
    stated: dict[str, int] = {}
    for case in cases:
        if "fold" not in case:
            continue
        if stated.setdefault(case["subject"], int(case["fold"])) != int(case["fold"]):
            raise InputError(
                case["image"],
                f"subject '{case['subject']}' is in folds {stated[case['subject']]} and {case['fold']}",
                "put all cases of a subject into one fold",
            )
    if stated:
        if missing := [case for case in cases if "fold" not in case and case["subject"] not in stated]:
            raise InputError(missing[0]["image"], "has no 'fold' although other cases have", "give every case a fold")
        if strange := sorted({fold for fold in stated.values() if not 0 <= fold < num_folds}):
            raise InputError(
                "datalist", f"has folds {strange} outside 0..{num_folds - 1}", "pass the right --num_folds"
            )
        return stated
    counts: dict[str, int] = {}
    for case in cases:
        counts[case["subject"]] = counts.get(case["subject"], 0) + 1
    subjects = sorted(counts)
    random.Random(seed).shuffle(subjects)
    # Subjects with many cases first, each into the part that holds the fewest cases: with one case a subject this deals
    # them out in turn, so 172 become 35, 35, 34, 34, 34.
    filled, folds = [0] * num_folds, {}
    for subject in sorted(subjects, key=lambda name: -counts[name]):
        fold = filled.index(min(filled))
        folds[subject] = fold
        filled[fold] += counts[subject]
    return folds


def split_cases(
    cases: Sequence[Mapping[str, Any]], fold: int, num_folds: int = 5, num_validation: int = 4, seed: int = 0
) -> dict[str, list[dict[str, Any]]]:
    """Divide cases into training, validation and test, no subject in two of them.

    One fold is held out; ``num_validation`` of its cases (whole subjects, at most half of them) select the model and
    the rest are the test part (SAFNet paper, the paragraph on five-fold cross-validation: 4 of 34).

    Args:
        cases: with ``id``, ``subject`` and perhaps ``fold``.
        fold: the held-out part, 0-based.
        num_folds: number of parts.
        num_validation: cases for validation.
        seed: of the shuffle.

    Returns:
        ``train``, ``validation``, ``test``: lists of cases by ``id``.

    Raises:
        InputError: ``fold`` is out of range, there are fewer subjects than folds, or a subject's folds contradict.
    """
    fold, num_folds, num_validation = int(fold), int(num_folds), int(num_validation)
    if not 0 <= fold < num_folds:
        raise InputError(f"fold={fold}", f"is not one of the {num_folds} folds", f"pass --fold 0 to {num_folds - 1}")
    subjects = {case["subject"] for case in cases}
    if len(subjects) < num_folds:
        raise InputError(
            "dataset_dir", f"has {len(subjects)} subjects for {num_folds} folds", "pass a smaller --num_folds"
        )
    folds = _folds_of_subjects(cases, num_folds, int(seed))
    heldout: dict[str, list[dict[str, Any]]] = {}
    train = []
    for case in sorted(cases, key=lambda item: item["id"]):
        (heldout.setdefault(case["subject"], []) if folds[case["subject"]] == fold else train).append(dict(case))
    if not heldout or not train:
        raise InputError(f"fold={fold}", "leaves no cases to train on or to hold out", "choose another fold")
    order = sorted(heldout)
    random.Random(f"{seed}-{fold}").shuffle(order)
    wanted = min(num_validation, sum(map(len, heldout.values())) // 2)
    validation: list[dict[str, Any]] = []
    test: list[dict[str, Any]] = []
    for subject in order:
        (validation if len(validation) + len(heldout[subject]) <= wanted else test).extend(heldout[subject])
    if not validation:  # one subject only is held out: it selects the model, and nothing is left to test
        validation, test = test, []
    parts = {"train": train, "validation": validation, "test": test}
    return {name: sorted(part, key=lambda case: case["id"]) for name, part in parts.items()}

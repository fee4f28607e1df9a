"""Folds by subject, deterministic."""

from __future__ import annotations

import json
import logging
import random
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from common.errors import InputError

__all__ = ["published_folds", "split_cases"]

logger = logging.getLogger(__name__)


@cache
def _mrspineseg_folds() -> dict[int, int]:
    content = json.loads(Path(__file__).with_name("mrspineseg_folds.json").read_text(encoding="utf-8"))
    return {number: fold for fold, numbers in enumerate(content["held_out"]) for number in numbers}


def published_folds(cases: Sequence[Mapping[str, Any]]) -> dict[str, int] | None:
    """Return each subject's fold where all cases are among MRSpineSeg's 172 labelled ones (``Case2`` to ``Case215``).

    These are the lists that SSHSNet's authors published; the SAFNet paper divides the same 172 cases and gives no list.

    Args:
        cases: with ``id`` and ``subject``.
    """
    folds: dict[str, int] = {}
    for case in cases:
        name = re.fullmatch(r"case(\d+)", case["id"], flags=re.IGNORECASE)
        fold = _mrspineseg_folds().get(int(name[1])) if name else None
        if fold is None or folds.setdefault(case["subject"], fold) != fold:
            return None
    return folds


def _folds_of_subjects(cases: Sequence[Mapping[str, Any]], num_folds: int, seed: int) -> dict[str, int]:
    """Give each subject a fold: what its cases state, else the published lists, else a shuffle into equal parts."""
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
    if num_folds == 5 and (published := published_folds(cases)):
        logger.info("Folds: the published lists of MRSpineSeg's labelled cases")
        return published
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
    _check_leak(parts)
    return {name: sorted(part, key=lambda case: case["id"]) for name, part in parts.items()}


def _check_leak(parts: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Fail loudly where a subject or an image file is in two parts, whatever the way the parts were made."""
    for what in ("subject", "image"):
        where: dict[str, str] = {}
        for name, part in parts.items():
            for case in part:
                if where.setdefault(case[what], name) != name:
                    raise InputError(
                        case["image"],
                        f"its {what} '{case[what]}' is in the {where[case[what]]} part and in the {name} part",
                        "list each file once, and all cases of a subject in one fold",
                    )

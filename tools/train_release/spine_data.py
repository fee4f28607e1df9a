"""The data list of a spine bundle's release: the user's exams, and phantoms for what few of them draw."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from common.data.atomic import write_json
from common.data.cases import find_cases
from common.data.phantom import write_spine_phantoms
from common.data.splits import split_cases

__all__ = ["PHANTOM", "write_datalist"]

# What phantoms bear as `sequence`, by which the sampler balances.
PHANTOM = "phantom"
_UNKNOWN = "unknown"


def write_datalist(dataset_dir: Path, phantoms: Mapping[str, int], folder: Path, fold: int, num_folds: int) -> Path:
    """Write a data list of all exams of a data set and of phantoms.

    Exams keep the folds that the bundle's training gives them. Phantoms belong to the fold behind the held-out one, so
    that they are always trained on and never counted.

    Args:
        dataset_dir: see :func:`common.data.find_cases`.
        phantoms: their ``count`` and ``seed``.
        folder: where the list and the phantoms go; phantoms that are there already are used again.
        fold: the held-out one, 0-based.
        num_folds: how many there are.

    Returns:
        The list's path.

    Raises:
        InputError: see :func:`common.data.find_cases`, :func:`common.data.splits.split_cases` and
            :func:`common.data.phantom.write_spine_phantoms`.
    """
    rows = []
    cases = find_cases(dataset_dir)
    for number in range(num_folds):
        parts = split_cases(cases, fold=number, num_folds=num_folds)
        rows += [
            case | {"fold": number, "sequence": case.get("sequence", _UNKNOWN)}
            for case in parts["validation"] + parts["test"]
        ]
    made = folder / "phantoms"
    write_spine_phantoms(made, phantoms["count"], phantoms["seed"])
    for number, case in enumerate(find_cases(made)):
        name = f"phantom_mixed_{number:03d}"  # the exams may be phantoms themselves
        rows.append(case | {"id": name, "subject": name, "fold": (fold + 1) % num_folds, "sequence": PHANTOM})
    datalist = folder / f"datalist_{fold}.json"
    write_json(datalist, {"cases": rows})
    return datalist

"""The scans without labels of a semi-supervised training."""

from __future__ import annotations

import filecmp
import json
import logging
import os
import random
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from common.data.cases import DATALIST, CaseList, SpineCases
from common.data.dicom_series import split_path
from common.data.scans import ScanList
from common.data.splits import published_folds
from common.errors import InputError

__all__ = ["UnlabeledCases", "published_unlabelled"]

logger = logging.getLogger(__name__)

_ENTRY = "unlabelled"


@cache
def published_unlabelled() -> frozenset[int]:
    """Return the numbers of MRSpineSeg's 43 cases that SSHSNet's authors trained on without labels."""
    path = Path(__file__).with_name("mrspineseg_folds.json")
    return frozenset(json.loads(path.read_text(encoding="utf-8"))["unlabelled"])


class UnlabeledCases:
    """Training cases with and without labels.

    Scans without labels are those of a folder, those that the datalist names in its list ``unlabelled``, and training
    cases whose labels are withheld, all together. Withheld labels are never read: the items do not name them.

    In a folder with MRSpineSeg's cases, beside training on its 172 labelled ones, only the 43 of the published list
    count, where any of them is there. A scan that is also a labelled training case is left out. One that is also held
    out for validation or test (the same file or bytes, subject or name) makes the training transductive, as that of
    SSHSNet's authors, whose unlabelled scans are their test set: what is measured then says less about scans that
    come later. A line says so.

    Args:
        cases: training, validation and test cases.
        dataset_dir: where ``cases`` come from.
        datalist: the datalist, where it lies elsewhere than in ``dataset_dir``. Its ``unlabelled`` is a list of paths
            relative to ``dataset_dir``, of scans or of folders of them, each by itself or as ``{"image": path}``, where
            ``subject`` may say whose scan it is.
        unlabeled_dir: a folder of scans, or one scan (see :class:`common.data.ScanList`).
        labelled_share: what share of the training subjects keep their labels, at least one; the others' cases are
            taken for unlabelled. The subjects of a smaller share are among those of a larger one.
        refuse_transductive: make it an error if an unlabelled scan is also held out.
        seed: which subjects keep their labels.

    Attributes:
        labelled: :class:`common.data.CaseList` of the training cases that keep their labels.
        unlabelled: that of the scans without, ``{"image": path, "id": name}``; may be empty.

    Raises:
        InputError: a scan cannot be read, the list is not what it has to be, ``labelled_share`` is not in (0, 1], or a
            scan is held out although this is refused.
    """

    def __init__(
        self,
        cases: SpineCases,
        dataset_dir: str | os.PathLike,
        datalist: str | os.PathLike | None = None,
        unlabeled_dir: str | os.PathLike | None = None,
        labelled_share: float = 1.0,
        refuse_transductive: bool = False,
        seed: int = 0,
    ) -> None:
        kept, withheld = _withhold(cases.train, labelled_share, seed)
        scans = _listed(Path(dataset_dir), Path(datalist) if datalist else Path(dataset_dir) / DATALIST)
        if unlabeled_dir is not None:
            scans += _published(ScanList(unlabeled_dir).items, cases)
        scans = [scan for scan in _each_once(scans) if not any(_same_scan(scan, case) for case in cases.train)]
        heldout = _held_out(scans, cases, refuse_transductive)
        unlabelled = [{"image": scan["image"], "id": scan["id"]} for scan in (*withheld, *scans)]
        split = dict(cases.train.split) | {
            "labelled": [case["id"] for case in kept],
            "unlabelled": [scan["id"] for scan in unlabelled],
            "unlabelled_and_held_out": heldout,
        }
        self.labelled, self.unlabelled = CaseList(kept, split), CaseList(unlabelled, split)
        logger.info(
            "%d labelled training cases; %d unlabelled scans, of which %d are training cases with labels withheld",
            len(kept), len(unlabelled), len(withheld),
        )  # fmt: skip

    def pool(self) -> CaseList:
        """Return the scans without labels.

        Raises:
            InputError: there is none.
        """
        if not self.unlabelled:
            raise InputError(
                "unlabeled_dir",
                "no scan without labels is given",
                "pass --unlabeled_dir with a folder of scans, or --labelled_share 0.2 to withhold labels",
            )
        return self.unlabelled


def _withhold(
    train: Sequence[Mapping[str, Any]], share: float, seed: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Divide the training cases into those that keep their labels and those that do not, by subject."""
    try:
        number = float(share)
    except (TypeError, ValueError):
        number = 0.0
    if not 0 < number <= 1:
        raise InputError(f"labelled_share={share}", "is not a share above 0 and up to 1", "use 1 to keep all labels")
    subjects = sorted({case["subject"] for case in train})
    random.Random(f"{int(seed)}-labelled").shuffle(subjects)
    chosen = set(subjects[: max(1, round(number * len(subjects)))])
    kept, withheld = ([dict(case) for case in train if (case["subject"] in chosen) is keep] for keep in (True, False))
    return kept, withheld


def _listed(root: Path, listing: Path) -> list[dict[str, Any]]:
    """Return the scans that a datalist names without labels; it has been read before, and is valid JSON."""
    rows = json.loads(listing.read_text(encoding="utf-8")).get(_ENTRY) if listing.is_file() else None
    if rows is None:
        return []
    if not isinstance(rows, list):
        raise InputError(listing, f"its entry '{_ENTRY}' is not a list", f'write "{_ENTRY}": ["PATH", ...]')
    scans: list[dict[str, Any]] = []
    for number, row in enumerate(rows):
        entry = row if isinstance(row, dict) else {"image": row}
        if not isinstance(entry.get("image"), str) or not entry["image"]:
            raise InputError(listing, f"{_ENTRY} scan {number} has no 'image'", "name a file or folder")
        try:
            found = ScanList(root / entry["image"]).items
        except InputError as error:
            problem = f"{_ENTRY} scan {number}: {error.where} {error.problem}"
            raise InputError(listing, problem, "mend the list") from error
        scans += [scan | {"subject": str(entry["subject"])} if "subject" in entry else scan for scan in found]
    return scans


def _published(scans: list[dict[str, Any]], cases: SpineCases) -> list[dict[str, Any]]:
    """Keep the scans of the published list, where the data set is MRSpineSeg and any of them is there."""
    if published_folds(cases.all) is None:
        return scans
    named = [(scan, re.fullmatch(r"case(\d+)", scan["id"], flags=re.IGNORECASE)) for scan in scans]
    listed = [scan for scan, name in named if name and int(name[1]) in published_unlabelled()]
    if not listed:
        return scans
    logger.info("Unlabelled scans: the %d of MRSpineSeg's published list that are there", len(listed))
    return listed


def _each_once(scans: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({scan["image"]: scan for scan in scans}.values())


def _held_out(scans: Sequence[Mapping[str, Any]], cases: SpineCases, refuse: bool) -> list[str]:
    """Return the ids of the scans that are also in validation or test, and say so."""
    subjects = {case["subject"] for case in cases.heldout}
    names = {case["id"].lower() for case in cases.heldout}
    found = [
        scan
        for scan in scans
        if scan.get("subject") in subjects
        or scan["id"].lower() in names
        or any(_same_scan(scan, case) for case in cases.heldout)
    ]
    if not found:
        return []
    what = f"{len(found)} of {len(scans)} unlabelled scans are also held out for validation or test"
    if refuse:
        raise InputError(found[0]["image"], what, "take them away, or pass --refuse_transductive false")
    logger.warning("%s (first: %s): the training is transductive", what, found[0]["id"])
    return [scan["id"] for scan in found]


def _same_scan(scan: Mapping[str, Any], case: Mapping[str, Any]) -> bool:
    """Say whether two images are one file or series, or files of the same bytes."""
    (one, first), (other, second) = split_path(scan["image"]), split_path(case["image"])
    if os.path.realpath(one) == os.path.realpath(other):
        return first is None or second is None or first == second
    if not (one.is_file() and other.is_file()) or one.stat().st_size != other.stat().st_size:
        return False
    return filecmp.cmp(one, other, shallow=False)

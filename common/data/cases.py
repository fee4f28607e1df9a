"""The cases of a spine data set: plain folders, a datalist, or the embedded phantom."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from common.data.dicom_header import is_dicom
from common.data.dicom_series import split_path
from common.data.phantom import write_spine_phantoms
from common.data.scan_reader import FORMATS, SCAN_SUFFIXES
from common.data.splits import split_cases
from common.errors import InputError

__all__ = ["CaseList", "SpineCases", "find_cases"]

logger = logging.getLogger(__name__)

DATALIST = "index.json"
# `images` and `labels` are the project's names; MR and Mask are those of the MRSpineSeg challenge.
FOLDERS = (("images", "labels"), ("MR", "Mask"))


class CaseList(list):
    """Items for a dataset that come from :class:`SpineCases`, not from a host application.

    Args:
        items: one dictionary for each case.
        split: the identifiers of all parts, to be stored beside the run.
    """

    def __init__(self, items: Iterable[Mapping[str, Any]] = (), split: Mapping[str, Any] | None = None) -> None:
        super().__init__(items)
        self.split = dict(split or {})


def case_id(path: Path) -> str:
    """Return a file's name without its suffix, ``.nii.gz`` taken as one; a folder's whole name."""
    if path.is_dir():
        return path.name
    suffix = next((end for end in SCAN_SUFFIXES if path.name.lower().endswith(end)), path.suffix)
    return path.name[: len(path.name) - len(suffix)]


def scan_files(folder: Path) -> list[Path]:
    """List the files right in a folder that are scans by their suffix, by name, hidden ones left out."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.name.lower().endswith(SCAN_SUFFIXES) and not path.name.startswith(".") and path.is_file()
    )


def series_folders(folder: Path) -> list[Path]:
    """List the folders right in a folder that hold a DICOM file, by name, hidden ones left out."""
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [path for path in folders if any(file.is_file() and is_dicom(file) for file in path.iterdir())]


def find_cases(dataset_dir: str | os.PathLike, datalist: str | os.PathLike | None = None) -> list[dict[str, Any]]:
    """Find the labelled cases of a data set.

    Args:
        dataset_dir: a folder with ``images/`` and ``labels/`` whose files bear the same names, each in any format that
            :class:`common.data.ScanReader` reads (an image may also be a folder with a DICOM series); or the
            MRSpineSeg challenge's ``MR/CaseN.nii.gz`` and ``Mask/mask_caseN.nii.gz``; or with a datalist.
        datalist: a JSON file ``{"cases": [{"image": ..., "label": ..., ...}, ...]}`` with paths relative to
            ``dataset_dir``; ``index.json`` in there where it exists. Further entries of a case: ``id``, ``subject``
            (cases of one subject stay together; the ``id`` where it lacks), ``labelled`` (the label values that its
            annotators drew; without it, all), ``fold``. Others are kept.

    Returns:
        One dictionary for each case, by ``id``, with absolute ``image`` and ``label``.

    Raises:
        InputError: nothing there, not readable, a file of the list is missing, or an ``id`` occurs twice.
    """
    root = Path(dataset_dir)
    if not root.is_dir():
        raise InputError(root, "is not a folder", "pass --dataset_dir with a folder that holds images/ and labels/")
    try:
        listing = Path(datalist) if datalist else root / DATALIST
        if datalist or listing.is_file():
            cases = _from_datalist(root, listing)
        else:
            cases = _from_folders(root)
    except PermissionError as error:
        raise InputError(error.filename or root, "cannot be read (no permission)", "grant read access") from error
    seen: dict[str, str] = {}
    for case in cases:
        if case["id"] in seen:
            raise InputError(
                case["image"], f"has the same case id '{case['id']}' as {seen[case['id']]}", "give each case its own id"
            )
        seen[case["id"]] = case["image"]
        for key in ("image", "label"):
            if not split_path(case[key])[0].exists():
                raise InputError(case[key], f"does not exist (the {key} of case '{case['id']}')", "mend the datalist")
    return sorted(cases, key=lambda case: case["id"])


def _label_key(name: str) -> str:
    """Return by what an image and its label map are matched: MRSpineSeg's ``mask_case1`` belongs to ``Case1``."""
    challenge = re.fullmatch(r"(?:mask_)?(case\d+)", name, flags=re.IGNORECASE)
    return challenge[1].lower() if challenge else name


def _from_folders(root: Path) -> list[dict[str, Any]]:
    images, labels = next(
        ((root / image, root / label) for image, label in FOLDERS if (root / image).is_dir()), (root / "images", None)
    )
    missing = next((folder for folder in (images, labels) if folder is not None and not folder.is_dir()), None)
    if missing is not None:
        problem = f"has neither {DATALIST} nor a folder {missing.name}/"
        raise InputError(root, problem, "see 'Train on your own data' in the README")
    named: dict[str, Path] = {}
    for path in scan_files(labels):
        if (other := named.setdefault(_label_key(case_id(path)), path)) != path:
            raise InputError(path, f"is a label map of the same case as {other}", "keep one of them")
    cases = []
    for image in [*scan_files(images), *series_folders(images)]:
        label = named.get(_label_key(case_id(image)))
        if label is None:
            raise InputError(image, f"has no label map of the same name in {labels}", "add it or move the image away")
        cases.append({"id": case_id(image), "image": str(image.resolve()), "label": str(label.resolve())})
    if not cases:
        raise InputError(images, f"holds no scan ({FORMATS})", "put the scans there")
    return [case | {"subject": case["id"]} for case in cases]


def _from_datalist(root: Path, listing: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(listing.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(listing, "does not exist", "pass --datalist with a JSON file, or leave it out") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(listing, f"is not valid JSON ({error})", "mend it") from error
    rows = content.get("cases") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not rows:
        raise InputError(listing, "has no list 'cases'", 'write {"cases": [{"image": ..., "label": ...}, ...]}')
    cases = []
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("image", "label")):
            raise InputError(listing, f"case {number} has no 'image' or no 'label'", "name both files")
        case = dict(row)
        case["id"] = str(row.get("id") or case_id(split_path(root / row["image"])[0]))
        case["subject"] = str(row.get("subject") or case["id"])
        for key in ("image", "label"):
            case[key] = str((root / row[key]).resolve())
        cases.append(case)
    return cases


class SpineCases:
    """Training, validation and test cases of one fold.

    Args:
        dataset_dir: the data set (see :func:`find_cases`).
        datalist: a datalist elsewhere than in ``dataset_dir``.
        phantom_dir: where the embedded phantom lives. Only when ``dataset_dir`` is this very folder is the phantom
            made, on first use: a folder that the user names is never filled.
        phantom_cases: how many phantoms.
        phantom_seed: their seed.
        fold: which part is held out, 0-based.
        num_folds: into how many parts the subjects are divided.
        num_validation: how many of the held-out cases select the model; the rest are for the test.
        seed: of the division, for data without ``fold`` entries.

    Attributes:
        train, validation, test, heldout (validation and test), all: :class:`CaseList`.

    Raises:
        InputError: see :func:`find_cases` and :func:`common.data.splits.split_cases`.
    """

    PARTS = ("train", "validation", "test", "heldout", "all")

    def __init__(
        self,
        dataset_dir: str | os.PathLike,
        datalist: str | os.PathLike | None = None,
        phantom_dir: str | os.PathLike | None = None,
        phantom_cases: int = 40,
        phantom_seed: int = 0,
        fold: int = 0,
        num_folds: int = 5,
        num_validation: int = 4,
        seed: int = 0,
    ) -> None:
        if phantom_dir is not None and not datalist and os.path.abspath(dataset_dir) == os.path.abspath(phantom_dir):
            if not os.path.isfile(os.path.join(phantom_dir, DATALIST)):
                logger.info("No dataset_dir given: making %d spine phantoms in %s", int(phantom_cases), phantom_dir)
            write_spine_phantoms(phantom_dir, int(phantom_cases), int(phantom_seed), report=logger.info)
        cases = find_cases(dataset_dir, datalist)
        parts = split_cases(cases, fold=fold, num_folds=num_folds, num_validation=num_validation, seed=seed)
        split = {"dataset_dir": str(Path(dataset_dir).resolve()), "fold": int(fold), "num_folds": int(num_folds)}
        split |= {name: [case["id"] for case in part] for name, part in parts.items()}
        parts["heldout"] = sorted(parts["validation"] + parts["test"], key=lambda case: case["id"])
        parts["all"] = cases
        for name, part in parts.items():
            setattr(self, name, CaseList(part, split))
        logger.info(
            "%s: %d cases; fold %d of %d: %d train, %d validation, %d test",
            dataset_dir, len(cases), int(fold), int(num_folds), len(self.train), len(self.validation), len(self.test),
        )  # fmt: skip

    def part(self, name: str) -> CaseList:
        """Return the cases of one part.

        Raises:
            InputError: there is no part of that name, or it is empty.
        """
        if name not in self.PARTS:
            raise InputError(f"part={name}", "is not a part of the data", f"choose one of {', '.join(self.PARTS)}")
        cases = getattr(self, name)
        if not cases:
            raise InputError(f"part={name}", "has no cases in this fold", "choose another part or fold")
        return cases

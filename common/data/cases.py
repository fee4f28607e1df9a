"""The cases of a spine data set: plain folders, a datalist, or the embedded phantom."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.data.dicom_header import is_dicom
from common.data.dicom_series import split_path
from common.data.label_scheme import label_values, whole_number
from common.data.parts import chosen_part
from common.data.phantom import write_spine_phantoms
from common.data.scan_reader import FORMATS, SCAN_SUFFIXES
from common.data.splits import split_cases
from common.errors import InputError

__all__ = ["CaseList", "SpineCases", "find_cases"]

logger = logging.getLogger(__name__)

DATALIST = "index.json"
# `images` and `labels` are the project's names; MR and Mask are those of the MRSpineSeg challenge.
FOLDERS = (("images", "labels"), ("MR", "Mask"))
_OWN = ("image", "label", "id", "subject", "labelled", "fold")
_SURROGATES = re.compile(r"[\ud800-\udfff]")
_UNPRINTABLE = re.compile(r"[\0-\x1f\x7f\ud800-\udfff]")
_MAX_NAME, _MAX_PATH, _MAX_ID = 255, 2000, 200  # bytes, characters, bytes


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
            annotators drew; without it, all), ``fold`` (which counts for all cases of the subject). Of others, those
            with a text or a number in every case are kept, as text, so that results can be grouped by them; any more
            would stop a loader, which can make no batch of entries that only some cases have. ``null`` is no entry.

    Returns:
        One dictionary for each case, by ``id``, with absolute ``image`` and ``label``.

    Raises:
        InputError: nothing there, not readable, a file of the list is missing, an entry is not what it has to be, or an
            ``id`` occurs twice or is no plain name: results are written to files that are called after it.
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
        if not _plain_name(case["id"]):
            raise InputError(
                listing if datalist or listing.is_file() else root,
                f"the case id {case['id'][:100]!a} is no plain file name",
                f"give it up to {_MAX_ID} characters, without / and \\",
            )
        if case["id"] in seen:
            raise InputError(
                case["image"], f"has the same case id '{case['id']}' as {seen[case['id']]}", "give each case its own id"
            )
        seen[case["id"]] = case["image"]
        for key in ("image", "label"):
            if not os.path.exists(split_path(case[key])[0]):
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
    except IsADirectoryError:
        raise InputError(listing, "is a folder", "pass --datalist with a JSON file, or leave it out") from None
    except RecursionError as error:
        raise InputError(listing, "is not valid JSON (nested too deep)", "mend it") from error
    except ValueError as error:
        raise InputError(listing, f"is not valid JSON ({error})", "mend it") from error
    rows = content.get("cases") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not rows:
        raise InputError(listing, "has no list 'cases'", 'write {"cases": [{"image": ..., "label": ...}, ...]}')
    cases = []
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("image", "label")):
            raise InputError(listing, f"case {number} has no 'image' or no 'label'", "name both files")
        try:
            cases.append(_case(root, {key: value for key, value in row.items() if value is not None}))
        except InputError as error:
            raise InputError(listing, f"case {number}: '{error.where}' {error.problem}", error.remedy) from error
    folds = {case["subject"]: case["fold"] for case in cases if "fold" in case}
    more = _common_entries(rows)
    for case, row in zip(cases, rows, strict=True):
        if case["subject"] in folds:
            case.setdefault("fold", folds[case["subject"]])
        case |= {key: _text(row[key]) for key in more}
    return cases


def _case(root: Path, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a datalist says of a case.

    Raises:
        InputError: an entry, which it names, is not what it has to be.
    """
    for key in ("image", "label"):
        if not _file_name(row[key]):
            raise InputError(key, f"is not a file name ({row[key][:100]!a})", "name a file")
    case = {key: str((root / row[key]).resolve()) for key in ("image", "label")}
    names = {key: _text(row[key]) for key in ("id", "subject") if row.get(key, "") != ""}
    for key, name in names.items():
        if name is None or _UNPRINTABLE.search(name):
            raise InputError(key, "is neither a text of one line nor a number", "give it a name")
    case["id"] = names.get("id") or case_id(split_path(root / row["image"])[0])
    case["subject"] = names.get("subject") or case["id"]
    if "labelled" in row:
        case["labelled"] = label_values(row["labelled"])
    if "fold" in row:
        case["fold"] = whole_number(row["fold"])
        if case["fold"] is None:
            raise InputError("fold", "is not a whole number", "number the folds from 0")
    return case


def _common_entries(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return which further entries have a text or a number in every case."""
    return [key for key in rows[0] if key not in _OWN and all(_text(row.get(key)) is not None for row in rows)]


def _text(value: Any) -> str | None:
    """Return a text that can be written, or a number as text; None for anything else."""
    if not isinstance(value, (str, int, float)):
        return None
    return None if _SURROGATES.search(str(value)) else str(value)


def _file_name(path: str) -> bool:
    """Say whether a file may be called so, with its folders."""
    if not path or len(path) > _MAX_PATH or _UNPRINTABLE.search(path):
        return False
    return all(len(part.encode()) <= _MAX_NAME for part in path.split("/"))


def _plain_name(name: str) -> bool:
    """Say whether files may be called after a name: they go into the output folder, with suffixes of their own."""
    if not name.strip(". ") or _UNPRINTABLE.search(name) or "/" in name or "\\" in name:
        return False
    return len(name.encode()) <= _MAX_ID


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
        return chosen_part(name, lambda part: getattr(self, part), "cases")

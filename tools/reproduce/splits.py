"""Which cases each fold trains on, chooses by and tests on; and that nobody is on two sides."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

from common.data.atomic import write_json
from common.data.provenance import sha256_of
from common.errors import InputError
from tools.configuration import read_configuration
from tools.reproduce.plan import Options
from tools.reproduce.table import Table

__all__ = ["Splits", "check_leaks", "read_splits", "store_splits"]

PARTS = ("train", "validation", "test")
SPLITS = "splits.json"


@dataclass(frozen=True)
class Splits:
    """The division of a data set.

    Attributes:
        folds: by fold and part, the cases' ids; a single split is fold 0.
        subjects: by case.
        files: SHA-256 of each case's pictures, by case.
    """

    folds: Mapping[int, Mapping[str, Sequence[str]]]
    subjects: Mapping[str, str]
    files: Mapping[str, Sequence[str]]

    def plain(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        folds = {str(fold): {part: list(cases) for part, cases in parts.items()} for fold, parts in self.folds.items()}
        return {"folds": folds, "subjects": dict(self.subjects), "files": {k: list(v) for k, v in self.files.items()}}

    @property
    def list_sha256(self) -> str:
        """Hash of the cases, their subjects and their pictures."""
        return _hash({"subjects": dict(self.subjects), "files": {k: list(v) for k, v in self.files.items()}})

    @property
    def sha256(self) -> str:
        """Hash of the division."""
        return _hash(self.plain()["folds"])

    @property
    def never_tested(self) -> list[str]:
        """Cases that are in no fold's test part."""
        tested = {case for parts in self.folds.values() for case in parts["test"]}
        return [case for case in self.subjects if case not in tested]


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_splits(table: Table, options: Options) -> Splits:
    """Divide the data set as the bundle does, for each fold.

    Args:
        table: whose bundle.
        options: data set, folds, seed.

    Raises:
        InputError: the data set cannot be read or divided.
    """
    folds: dict[int, Mapping[str, Sequence[str]]] = {}
    subjects: dict[str, str] = {}
    files: dict[str, list[str]] = {}
    root = options.bundles / table.bundle
    for fold in options.folds if table.num_folds > 1 else [0]:
        ids = options.data_ids(table) | (dict(table.quick) if options.quick else {})
        ids |= {"bundle_root": str(root), "fold": fold, "seed": options.seed}
        configuration = str(root / "configs" / "train.json")
        content = read_configuration(configuration)
        ids |= options.ids
        known = {name: value for name, value in ids.items() if name.split("#")[0] in content}
        parser = ConfigWorkflow(configuration, workflow_type="train", logging_file=False, **known).parser
        try:
            cases = parser.get_parsed_content("cases")
        except RuntimeError as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, InputError):
                cause = cause.__cause__
            if cause is None:
                raise
            raise cause from error
        split = cases.train.split
        folds[fold] = {part: list(split[part]) for part in PARTS}
        if not subjects:
            for case, (subject, pictures) in table.kind.subjects(cases).items():
                subjects[case] = subject
                files[case] = [sha256_of(path) for path in pictures]
    return Splits(folds, subjects, files)


def check_leaks(splits: Splits) -> None:
    """Refuse a division with a subject, or the same picture, on two sides, or a case that two folds test.

    Args:
        splits: the division.

    Raises:
        InputError: names the two cases.
    """
    remedy = "give both the same subject in the datalist, or leave one out"
    for fold, parts in splits.folds.items():
        where: dict[str, tuple[str, str]] = {}
        for part in PARTS:
            for case in parts[part]:
                marks = [f"subject {splits.subjects[case]}", *(f"picture {name}" for name in splits.files[case])]
                for mark in marks:
                    other, seen = where.setdefault(mark, (case, part))
                    if seen != part:
                        kind = "are of one subject" if mark.startswith("subject") else "hold the same picture"
                        problem = f"{other} ({seen}) and {case} ({part}) {kind}"
                        raise InputError(f"fold {fold}", problem, remedy)
    _check_tests(splits.folds)


def _check_tests(folds: Mapping[int, Mapping[str, Sequence[str]]]) -> None:
    tested: dict[str, int] = {}
    tests = [tuple(parts["test"]) for parts in folds.values()]
    if len(set(tests)) == 1:
        return  # the folds divide what is left beside one test part, or there is one fold only
    for fold, parts in folds.items():
        for case in parts["test"]:
            if case in tested:
                raise InputError(f"fold {fold}", f"tests {case}, as fold {tested[case]} does", "mend the folds")
            tested[case] = fold


def store_splits(splits: Splits, output: Path) -> None:
    """Write the division beside the runs, or compare it with the one that lies there.

    Args:
        splits: the division.
        output: the table's folder.

    Raises:
        InputError: the runs in the folder were made with another data set or division.
    """
    path = output / SPLITS
    content = splits.plain() | {"sha256": splits.sha256, "list_sha256": splits.list_sha256}
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        if before["list_sha256"] != content["list_sha256"]:
            raise InputError(output, "holds runs on another data set", "pass that one, or another --output")
        common = set(before["folds"]) & set(content["folds"])
        if any(before["folds"][fold] != content["folds"][fold] for fold in common):
            raise InputError(output, "holds runs with another division", "pass the same --seed, or another --output")
        content["folds"] = before["folds"] | content["folds"]
    write_json(path, content)

"""All checks of one bundle, in their order."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import InputError
from tools.bundle_files import copy_bundle, is_recipe
from tools.verify.code_style import check_code
from tools.verify.layout import check_directory, check_large_files, check_licence
from tools.verify.readme import check_readme
from tools.verify.run_checks import RUN_CHECKS, run_checks
from tools.verify.text_files import check_text_files
from tools.verify.versions import check_version

__all__ = ["CHECKS", "NEED_WEIGHTS", "Result", "verify_bundle"]

_STATIC: Mapping[str, Callable[[Path], None]] = {
    "directory": check_directory,
    "large_files": check_large_files,
    "licence": check_licence,
    "readme": check_readme,
    "version": check_version,
    "text_files": check_text_files,
    "code": check_code,
}
CHECKS = (*_STATIC, *RUN_CHECKS)
# What a recipe cannot pass, and nothing else.
NEED_WEIGHTS = ("weights", "evaluate_properties", "inference_properties", "torchscript")
_NEEDS = "needs weights"


@dataclass(frozen=True)
class Result:
    """What came of a check.

    Args:
        bundle: name of its folder.
        check: name of the check.
        status: ``ok``, ``waived`` or ``FAILED``.
        note: why, or what is to be known.
    """

    bundle: str
    check: str
    status: str
    note: str = ""

    def __str__(self) -> str:
        return f"{self.bundle:<8} {self.check:<21} {self.status}{': ' if self.note else ''}{self.note}"


def verify_bundle(
    root: Path, schema: Path | None, random_weights: bool = False, waived: Collection[str] = ()
) -> Iterator[Result]:
    """Check a bundle.

    Args:
        root: its folder.
        schema: of the metadata; None: MONAI downloads it.
        random_weights: give a copy of a recipe random weights, so that the checks which need weights run too.
        waived: names of checks that are not done.

    Yields:
        One result per check, in the order of ``CHECKS``, each when it is known.
    """
    name = root.name
    for check, look in _STATIC.items():
        if check in waived:
            yield Result(name, check, "waived", "as asked")
            continue
        problem = _problem(look, root)
        yield Result(name, check, "FAILED" if problem else "ok", problem)
    try:
        recipe = is_recipe(root)
    except InputError:
        recipe = False  # which the check of the large files has told already
    notes = {check: "as asked" for check in RUN_CHECKS if check in waived}
    if recipe:
        # Random weights show that the bundle works, not that it has weights.
        missing = ("weights",) if random_weights else NEED_WEIGHTS
        notes |= {check: _NEEDS for check in missing if check not in notes}
    wanted = [check for check in RUN_CHECKS if check not in notes]
    problems = _problems_in_runs(root, schema, wanted, recipe and random_weights)
    for check in RUN_CHECKS:
        if check in notes:
            yield Result(name, check, "waived", notes[check])
        elif problem := next(problems):
            yield Result(name, check, "FAILED", problem)
        else:
            yield Result(name, check, "ok", "with random weights" if recipe and check in NEED_WEIGHTS else "")


def _problems_in_runs(root: Path, schema: Path | None, wanted: Sequence[str], random_weights: bool) -> Iterator[str]:
    """Give what each of the wanted checks found on a copy of the bundle; nothing if all is well."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder).resolve() / root.name
        try:
            copy_bundle(root, copy)
        except InputError as error:
            yield from [str(error)] * len(wanted)
            return
        yield from run_checks(copy, schema, wanted, random_weights)


def _problem(look: Callable[[Path], None], root: Path) -> str:
    """Return what a check has found, in one line; nothing if all is well."""
    try:
        look(root)
    except InputError as error:
        return str(error)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{root}: cannot be checked ({type(error).__name__}: {' '.join(str(error).split())})"
    return ""

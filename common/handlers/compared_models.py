"""Earlier evaluations of other models, with which one is compared."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from common.data.frames import read_mask
from common.errors import InputError
from common.metrics import FrameResults

__all__ = ["RESULTS", "SUMMARY", "ComparedModel", "compared_models", "mask_file"]

logger = logging.getLogger(__name__)

RESULTS, SUMMARY = "frames.npz", "summary.json"
_REMEDY = "evaluate that model on the same part of the same data"


def mask_file(folder: Path, frame: str) -> Path:
    """Return where an evaluation's folder has the mask of the frame of that id."""
    return folder / "masks" / f"{frame}.png"


@dataclass(frozen=True)
class ComparedModel:
    """Another model's evaluation.

    Args:
        name: what the model is called.
        folder: the evaluation's output folder.
        results: what it kept.
    """

    name: str
    folder: Path
    results: FrameResults

    def matched(self, results: FrameResults) -> ComparedModel:
        """Return it with its frames in the order of other results.

        Raises:
            InputError: the frames, or what is drawn on them, are not the same.
        """
        self.check_frames(results.ids)
        ordered = self.results.ordered(results.ids)
        ours, theirs = (
            np.column_stack([part.presence.present, _drawn(part.counts.confusion)]) for part in (results, ordered)
        )
        other = np.flatnonzero((ours != theirs).any(axis=1))
        if len(other):
            problem = f"has another reference for {_named([results.ids[at] for at in other])}"
            raise InputError(self.folder, problem, _REMEDY)
        return replace(self, results=ordered)

    def check_frames(self, ids: Iterable[str], exactly: bool = True) -> None:
        """Fail where the frames are others.

        Args:
            ids: of the frames that are evaluated, or may be.
            exactly: whether these are just the ones that are evaluated.

        Raises:
            InputError: there are frames that are only here or (``exactly``) only there.
        """
        here, there = set(ids), set(self.results.ids)
        differences = [
            f"{what} {_named([name for name in order if name not in others])}"
            for what, order, others in (("has", self.results.ids, here), ("lacks", ids, there))
            if (exactly or what == "has") and set(order) - others
        ]
        if differences:
            raise InputError(
                self.folder, f"is of other frames than this evaluation: {', and '.join(differences)}", _REMEDY
            )

    def mask(self, frame: str, size: tuple[int, int]) -> np.ndarray | None:
        """Return its mask of a frame, (H, W) booleans, the gate left out; None, with a warning, where there is none.

        Args:
            frame: its id.
            size: its height and width.
        """
        try:
            return read_mask(str(mask_file(self.folder, frame)), size)
        except InputError as error:
            logger.warning("%s; the panel lacks it", error)
            return None


def compared_models(folders: Sequence[str | Path], own: Path, own_name: str) -> list[ComparedModel]:
    """Read earlier evaluations.

    Args:
        folders: their output folders.
        own: the output folder of the present one.
        own_name: what its model is called; the others get other names.

    Raises:
        InputError: a folder is the present one's, comes twice, or holds no evaluation.
    """
    paths = [Path(folder).resolve() for folder in folders]
    names = [own_name]
    for at, path in enumerate(paths):
        if path == own.resolve():
            raise InputError(path, "is compared with itself: it is the output_dir", "choose another output_dir")
        if path in paths[:at]:
            raise InputError(path, "is in compare_with twice", "name it once")
        names.append(_unlike(_stated_name(path), path, names))
    return [
        ComparedModel(name, path, FrameResults.load(path / RESULTS))
        for name, path in zip(names[1:], paths, strict=True)
    ]


def _stated_name(folder: Path) -> str:
    """Return what an evaluation calls its model; the folder's name where that is not to be read."""
    try:
        return str(json.loads((folder / SUMMARY).read_text(encoding="utf-8"))["model"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return folder.name


def _unlike(name: str, folder: Path, taken: Sequence[str]) -> str:
    """Return a name that is not taken yet: with a folder above, then with a number."""
    choices = [name, f"{folder.parent.name}/{name}", *(f"{name} ({number})" for number in range(2, len(taken) + 3))]
    return next(choice for choice in choices if choice not in taken)


def _drawn(confusion: np.ndarray) -> np.ndarray:
    """Return how many pixels of each frame are inside and outside the reference, (N, 2)."""
    tp, fp, tn, fn = confusion.T
    return np.column_stack([tp + fn, tn + fp])


def _named(ids: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in ids[:3])
    return f"{len(ids)} frame{'s' * (len(ids) > 1)} ({shown}{', ...' * (len(ids) > 3)})"

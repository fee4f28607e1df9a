"""The ways in which labelled frames lie in folders."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from common.data.frames.labelled_frame import LabelledFrame, MaskReference
from common.data.video.frame_image import FRAME_SUFFIXES
from common.data.video.frames import natural_key
from common.data.video.layouts import VideoSequence
from common.data.video.sequences import PART_NAMES, find_sequences
from common.errors import InputError

__all__ = ["frames_in", "frames_of_sequences", "named_file"]

_CLASSES = {
    "positive": True, "positives": True, "pos": True, "negative": False, "negatives": False, "neg": False
}  # fmt: skip
_SEQUENCES = ("frames", "Frame", "videos", "Original")
_MASKS = ("masks", "mask", "labels", "annotations")
_MASK_NAME = re.compile(r"(.+?)_(?:mask|label)(?:_\d+)?")

_T = TypeVar("_T")


def frames_in(root: Path, labels: Sequence[str] | None = None, frame_step: int = 1) -> list[LabelledFrame]:
    """Find the labelled frames of a folder by its layout, the first of these that fits.

    ==================================================  ===============================================================
    ``train/``, ``val/``, ``test/``                     parts, each laid out as one of the following
    ``positive/``, ``negative/``                        with ``images/`` and ``masks/`` in them, or the pictures
                                                        themselves; what is in ``negative/`` needs no masks
    ``images/``, ``masks/``                             the frames, and the masks of the positives
    ``frames/``, ``SEQ/frames/``, ``videos/``, ...      sequences, as :func:`common.data.video.find_sequences` has
                                                        them, the phantom's included
    ``PATIENT/images/``, ``PATIENT/masks/``             the same for each patient (or ``PATIENT/positive/`` ...)
    pictures with LabelMe's ``NAME.json`` beside them   the frames, and the shapes of the positives
    ==================================================  ===============================================================

    A mask bears its frame's name, to which ``_mask`` or ``_label`` may be added, or is a LabelMe file of that name.
    Where frames lie in folders of their own in any of these, those folders are the patients: ``images/PATIENT/1.png``.
    A frame with nothing drawn is a negative where no folder says otherwise.

    Args:
        root: the folder.
        labels: which of LabelMe's labels count; all where None.
        frame_step: take every so-manieth frame of a sequence.

    Returns:
        The frames, natural order; ``patient`` and ``present`` are None where the layout does not tell.

    Raises:
        InputError: nothing is found, a mask has no frame or a frame two masks.
    """
    parts = _named(root, PART_NAMES)
    if not parts:
        return _without_parts(root, labels, frame_step)
    return [
        replace(frame, id=f"{name}/{frame.id}", part=part)
        for name, part in parts.items()
        for frame in _without_parts(root / name, labels, frame_step)
    ]


def frames_of_sequences(sequences: Sequence[VideoSequence], frame_step: int = 1) -> list[LabelledFrame]:
    """Return frames of sequences, each sequence's subject as their patient.

    Args:
        sequences: of :func:`common.data.video.find_sequences`.
        frame_step: take the first of every so many frames; neighbours in a video are nearly the same (the BESS paper
            takes one frame every 10 s).
    """
    return [
        LabelledFrame(
            id=f"{sequence.id}_{index:04d}",
            image=sequence.frames[index],
            mask=sequence.masks[index],
            present=None if sequence.present is None else sequence.present[index],
            patient=sequence.subject,
            part=sequence.part,
        )
        for sequence in sequences
        for index in range(0, len(sequence.frames), frame_step)
    ]


def named_file(folder: Path, name: str) -> Path | None:
    """Return the picture or LabelMe file of that name in a folder, whatever its suffix."""
    return next((path for end in (*FRAME_SUFFIXES, ".json") if (path := folder / f"{name}{end}").is_file()), None)


def _folders(root: Path) -> list[str]:
    names = [path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(names, key=lambda name: natural_key(Path(name)))


def _named(root: Path, meanings: Mapping[str, _T]) -> dict[str, _T]:
    """Return what the folders that have a meaning by their names mean."""
    found = {name: meanings[name.lower()] for name in _folders(root) if name.lower() in meanings}
    if len(set(found.values())) < len(found):
        raise InputError(root, f"has {' and '.join(found)}, of which two mean the same", "put them into one")
    return found


def _without_parts(root: Path, labels: Sequence[str] | None, frame_step: int) -> list[LabelledFrame]:
    classes, folders = _named(root, _CLASSES), _folders(root)
    if classes:
        return [
            replace(frame, id=f"{name}/{frame.id}", present=present)
            for name, present in classes.items()
            for frame in _annotated(root / name, labels)
        ]
    if "images" in folders:
        return _annotated(root, labels)
    if any((place / name).is_dir() for place in (root, *(root / name for name in folders)) for name in _SEQUENCES):
        return frames_of_sequences(find_sequences(root), frame_step)
    patients = [name for name in folders if (root / name / "images").is_dir() or _named(root / name, _CLASSES)]
    if patients:
        return [
            replace(frame, id=f"{name}/{frame.id}", patient=name)
            for name in patients
            for frame in _without_parts(root / name, labels, frame_step)
        ]
    return _annotated(root, labels)


def _annotated(root: Path, labels: Sequence[str] | None) -> list[LabelledFrame]:
    """Pair the frames of a folder with what was drawn on them."""
    images = root / "images" if (root / "images").is_dir() else root
    masks = next((root / name for name in _MASKS if (root / name).is_dir()), None)
    # Masks may lie within the folder of the images, where they are not to be taken for images.
    frame_of = _by_name(images, FRAME_SUFFIXES, () if masks is None else (masks,))
    if not frame_of:
        problem = f"holds no labelled frames ({' '.join(FRAME_SUFFIXES)})"
        raise InputError(images, problem, "see 'Train on your own data' in the README")
    drawn: dict[str, tuple[Path, MaskReference]] = {}
    if masks is not None:
        for name, path in _by_name(masks, FRAME_SUFFIXES).items():
            _add(drawn, frame_of, name if name in frame_of else _frame_name(name), path, str(path))
    for name in [name for name in frame_of if _frame_name(name) != name and _frame_name(name) in frame_of]:
        path = frame_of.pop(name)  # a mask that lies beside its frame
        _add(drawn, frame_of, _frame_name(name), path, str(path))
    for folder in {images, masks or images}:
        for name, path in _by_name(folder, (".json",)).items():
            if name in frame_of or _is_labelme(path):  # an index, a list of classes: other JSON may lie there
                _add(drawn, frame_of, name, path, {"labelme": str(path), "labels": None if labels is None else labels})
    return [
        LabelledFrame(
            id=name,
            image=str(path),
            mask=drawn[name][1] if name in drawn else None,
            patient=name.split("/")[0] if "/" in name else None,
        )
        for name, path in frame_of.items()
    ]


def _frame_name(mask: str) -> str:
    """Return of which frame a mask is by its name."""
    found = _MASK_NAME.fullmatch(mask)
    return found[1] if found else mask


def _add(
    drawn: dict[str, tuple[Path, MaskReference]], frame_of: dict[str, Path], name: str, path: Path, mask: MaskReference
) -> None:
    if name not in frame_of:
        raise InputError(path, f"belongs to no frame: there is no picture '{name}'", "add it or move this away")
    if name in drawn:
        raise InputError(path, f"is a second mask of {frame_of[name]}, beside {drawn[name][0]}", "keep one of them")
    drawn[name] = (path, mask)


def _by_name(folder: Path, suffixes: Sequence[str], without: Sequence[Path] = ()) -> dict[str, Path]:
    """Return files at any depth by their path in the folder without suffix, natural order, hidden ones left out."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*"), key=natural_key):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if path.suffix.lower() not in suffixes or hidden or any(other in path.parents for other in without):
            continue
        name = relative.with_suffix("").as_posix()
        if name in found:
            raise InputError(path, f"has the same name as {found[name].name}", "remove or rename one of them")
        found[name] = path
    return found


def _is_labelme(path: Path) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "shapes" in content

"""Find the labelled frames of a data set."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from common.data.frames.datalist import frame_rows, frames_listed
from common.data.frames.grouped_folds import check_leak
from common.data.frames.labelled_frame import LabelledFrame
from common.data.frames.labelme import labelme_labels
from common.data.frames.layouts import frames_in
from common.data.frames.pictures import foreground, picture_size, read_mask, reference_name
from common.data.video.source import open_source
from common.errors import InputError

__all__ = ["find_frames"]

logger = logging.getLogger(__name__)

_INDEX = "index.json"
_THREADS = 8


def find_frames(
    dataset_dir: str | os.PathLike,
    datalist: str | os.PathLike | None = None,
    labels: Sequence[str] | None = None,
    frame_step: int = 1,
) -> list[LabelledFrame]:
    """Find the labelled frames of a data set.

    They are listed in JSON (see :func:`common.data.frames.datalist.frames_listed`), or the folder's layout tells what
    they are (see :func:`common.data.frames.layouts.frames_in`). Whether what is to be segmented is present is what is
    stated, else whether anything is drawn; every mask is read once, so that what contradicts is found before training.

    Args:
        dataset_dir: the folder.
        datalist: the list, ``{"frames": [...]}`` or a bare list, with paths relative to ``dataset_dir``;
            ``index.json`` in there where it is such a list.
        labels: which of LabelMe's labels count (of one name, or several); all where None.
        frame_step: take every so-manieth frame of video sequences.

    Returns:
        The frames in the order of the list, or in natural order. ``present`` and ``patient`` are known of all: a
        frame whose patient is not known is its own, which a log line tells.

    Raises:
        InputError: nothing is found, a file is missing or cannot be read, an id occurs twice, a mask's size is not its
            frame's, what is stated of a frame contradicts its mask, frames of a patient are in two parts or folds, or
            some frames have a part or a fold and others not.
    """
    root = Path(dataset_dir)
    labels = [labels] if isinstance(labels, str) else list(labels) if labels else None
    if not root.is_dir():
        raise InputError(root, "is not a folder", "pass --dataset_dir with a folder that holds labelled frames")
    if frame_step < 1:
        raise InputError(f"frame_step={frame_step}", "is not a step", "use 1 or more")
    try:
        listing = Path(datalist) if datalist else root / _INDEX
        rows = frame_rows(listing) if datalist or listing.is_file() else None
        if rows is not None:
            frames = frames_listed(root, listing, rows, labels)
        elif datalist:
            raise InputError(listing, "has no list 'frames'", 'write {"frames": [{"image": ..., "mask": ...}, ...]}')
        else:
            frames = frames_in(root, labels, frame_step)
        _check_unique(frames)
        if labels:
            _check_labels(root, frames, labels)
        frames = _with_presence(_with_patients(root, frames))
    except PermissionError as error:
        raise InputError(error.filename or root, "cannot be read (no permission)", "grant read access") from error
    return _with_parts(root, frames)


def _check_unique(frames: Sequence[LabelledFrame]) -> None:
    for what in ("id", "image"):
        seen: dict[object, str] = {}
        for frame in frames:
            value = getattr(frame, what)
            if value in seen:
                raise InputError(reference_name(frame.image), f"is listed twice (as '{value}')", "list each frame once")
            seen[value] = frame.id


def _check_labels(root: Path, frames: Sequence[LabelledFrame], labels: Sequence[str]) -> None:
    files = [frame.mask["labelme"] for frame in frames if isinstance(frame.mask, dict)]
    found = set().union(*map(labelme_labels, files))
    if files and not found & set(labels):
        raise InputError(
            root, f"has no LabelMe shape labelled {' or '.join(labels)}, only {', '.join(sorted(found)) or 'none'}",
            "pass the right --labels",
        )  # fmt: skip


def _with_patients(root: Path, frames: Sequence[LabelledFrame]) -> list[LabelledFrame]:
    unknown = sum(frame.patient is None for frame in frames)
    if unknown:
        logger.warning(
            "%s: the patients of %d of %d frames are not known, so each of these counts as a patient of its own; "
            "frames of one operation may be in two parts, and scores too good", root, unknown, len(frames),
        )  # fmt: skip
    return [replace(frame, patient=frame.id) if frame.patient is None else frame for frame in frames]


def _with_presence(frames: Sequence[LabelledFrame]) -> list[LabelledFrame]:
    """Read all masks: say of each frame whether anything is drawn, and compare it with what is stated."""
    drawn = _drawn(frames)
    undrawn = sum(frame.mask is None and frame.present is None for frame in frames)
    if undrawn == len(frames):
        raise InputError(
            reference_name(frames[0].image), "and all other frames have neither masks nor a word on what is present",
            "see 'Train on your own data' in the README",
        )  # fmt: skip
    if undrawn:
        logger.warning("Nothing is drawn on %d of %d frames, which are taken as negatives", undrawn, len(frames))
    found = []
    for frame, anything in zip(frames, drawn, strict=True):
        if frame.mask is not None and frame.present not in (None, anything):
            stated = "a positive, but its mask is empty" if frame.present else "a negative, but its mask is not empty"
            raise InputError(reference_name(frame.mask), f"its frame is stated as {stated}", "mend one of the two")
        found.append(replace(frame, present=bool(anything) if frame.present is None else frame.present))
    return found


def _drawn(frames: Sequence[LabelledFrame]) -> list[bool]:
    """Return for each frame whether its mask holds anything; False where it has none."""
    videos: dict[str, dict[int, int]] = {}
    for at, frame in enumerate(frames):
        if isinstance(frame.mask, tuple):
            videos.setdefault(frame.mask[0], {})[frame.mask[1]] = at
    with ThreadPoolExecutor(_THREADS) as pool:  # decoders let other threads run
        drawn = list(pool.map(_anything, frames))
    for video, places in videos.items():
        with open_source(video) as source:
            for picture in source:
                if picture.index in places:
                    drawn[places[picture.index]] = bool(foreground(picture.image, video, lossless=False).any())
    return drawn


def _anything(frame: LabelledFrame) -> bool:
    size = picture_size(frame.image) if isinstance(frame.image, str) else None
    if frame.mask is None or isinstance(frame.mask, tuple):
        return False
    return bool(read_mask(frame.mask, size).any())


def _with_parts(root: Path, frames: Sequence[LabelledFrame]) -> list[LabelledFrame]:
    """Check what is stated of parts and folds."""
    stated = any(frame.part is not None for frame in frames)
    if stated:  # a frame of which only its fold is stated is one to train on
        frames = [replace(f, part="train") if f.part is None and f.fold is not None else f for f in frames]
    for frame in frames:
        if stated and frame.part is None:
            problem = "is in no part, although other frames are"
            raise InputError(reference_name(frame.image), problem, "give every frame a part")
    check_leak({part: [f for f in frames if f.part == part] for part in Counter(f.part for f in frames)})
    trained = [frame for frame in frames if frame.part in (None, "train")]
    folds: dict[str, int] = {}
    for frame in trained if any(frame.fold is not None for frame in trained) else ():
        if frame.fold is None:
            problem = "has no 'fold' although other frames have"
            raise InputError(reference_name(frame.image), problem, "give every frame a fold")
        if (first := folds.setdefault(frame.patient, frame.fold)) != frame.fold:
            problem = f"its patient '{frame.patient}' is in folds {first} and {frame.fold}"
            raise InputError(reference_name(frame.image), problem, "put all frames of a patient into one fold")
    return list(frames)

"""Parts and folds that keep each patient's frames together."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from common.data.frames.labelled_frame import LabelledFrame
from common.errors import InputError

__all__ = ["assign_groups", "check_leak", "split_frames"]


def assign_groups(
    groups: Sequence[str], present: Sequence[bool], shares: Sequence[float], seed: int = 0
) -> dict[str, int]:
    """Divide groups of frames into parts of given shares, each with the same mix of positives and negatives.

    The groups are dealt out from the largest to the smallest, each to the part where it brings the counts of positives
    and of negatives nearest to what that part is to have (least increase of the squared error relative to the expected
    count, as in a chi-squared test). Large groups are what keeps the mix from being exact. Every part gets a group.

    Args:
        groups: the group of each frame.
        present: whether each frame is a positive.
        shares: what part of all frames each part is to have.
        seed: decides between groups of one size.

    Returns:
        The number of the part of each group, 0-based. The same arguments give the same parts, in whatever order the
        frames come.

    Raises:
        ValueError: there are fewer groups than parts, or a share is not positive.
    """
    counts: dict[str, np.ndarray] = {}
    for group, positive in zip(groups, present, strict=True):
        counts.setdefault(group, np.zeros(2))[int(bool(positive))] += 1
    if len(counts) < len(shares):
        raise ValueError(f"{len(counts)} groups cannot be divided into {len(shares)} parts")
    if min(shares) <= 0:
        raise ValueError(f"shares must be positive, got {list(shares)}")
    total = sum(counts.values())
    wanted = np.outer(shares, total / sum(shares))
    scale = np.where(wanted > 0, wanted, 1.0)
    order = sorted(counts)
    random.Random(seed).shuffle(order)
    order.sort(key=lambda group: -float((counts[group] / np.where(total > 0, total, 1.0)).max()))

    filled = np.zeros_like(wanted)
    parts: dict[str, int] = {}
    empty = set(range(len(shares)))
    for dealt, group in enumerate(order):
        increase = (((filled + counts[group] - wanted) ** 2 - (filled - wanted) ** 2) / scale).sum(axis=1)
        if len(order) - dealt <= len(empty):  # the last groups are needed where nothing is yet
            increase[[part for part in range(len(shares)) if part not in empty]] = np.inf
        part = int(increase.argmin())
        parts[group] = part
        filled[part] += counts[group]
        empty.discard(part)
    return parts


def check_leak(parts: Mapping[str, Sequence[LabelledFrame]]) -> None:
    """Fail loudly where a patient, an image file or an id is in two parts, whatever the way the parts were made.

    Raises:
        InputError: it is so.
    """
    for what in ("patient", "image", "id"):
        where: dict[object, str] = {}
        for name, frames in parts.items():
            for frame in frames:
                value = getattr(frame, what)
                value = tuple(value) if isinstance(value, list) else value
                if where.setdefault(value, name) != name:
                    raise InputError(
                        frame.image if isinstance(frame.image, str) else frame.image[0],
                        f"its {what} '{value}' is in the {where[value]} part and in the {name} part",
                        "list each frame once, and all frames of a patient in one part",
                    )


def split_frames(
    frames: Sequence[LabelledFrame], fold: int | None = 0, num_folds: int = 3, test_share: float = 6 / 28, seed: int = 0
) -> dict[str, list[LabelledFrame]]:
    """Divide frames into training, validation and test, no patient in two of them.

    The test patients are set apart first and are the same for all folds; cross-validation divides the others (BESS
    paper: 6 of 28 patients for testing, three folds of the other 22). What the frames state goes before: parts with a
    validation part are taken as they are; where only training and test are stated, the training part is divided into
    folds; stated folds are the folds, and then the test part is what is stated as such, perhaps nothing.

    Args:
        frames: of :func:`common.data.frames.find_frames`.
        fold: which fold is for validation, 0-based; None for none: all but the test part is trained on.
        num_folds: how many folds.
        test_share: what share of the frames is for testing, where that is not stated; 0 for none.
        seed: of the division.

    Returns:
        ``train``, ``validation``, ``test``, in the order of ``frames``.

    Raises:
        InputError: ``fold`` or ``test_share`` is out of range, there are too few patients, the stated folds are
            contradictory, or a part would be empty.
    """
    if fold is not None and not 0 <= fold < num_folds:
        raise InputError(f"fold={fold}", f"is not one of the {num_folds} folds", f"pass --fold 0 to {num_folds - 1}")
    if not 0 <= test_share < 1:
        raise InputError(f"test_share={test_share}", "is not a share", "pass 0 or more and less than 1")
    placed = _with_test(frames, test_share, seed)
    if not any(frame.part == "validation" for frame in placed):
        placed = _with_validation(placed, fold, num_folds, seed)
    elif fold is None:
        placed = [replace(frame, part="train") if frame.part == "validation" else frame for frame in placed]
    parts = {
        name: [original for original, frame in zip(frames, placed, strict=True) if frame.part == name]
        for name in ("train", "validation", "test")
    }
    if not parts["train"] or (fold is not None and not parts["validation"]):
        raise InputError(f"fold={fold}", "leaves no frames to train on or to validate with", "choose another fold")
    check_leak(parts)
    return parts


def _with_test(frames: Sequence[LabelledFrame], test_share: float, seed: int) -> list[LabelledFrame]:
    """Give frames without a part ``test`` or ``train``."""
    if frames[0].part is not None:
        return list(frames)
    if test_share == 0 or any(frame.fold is not None for frame in frames):
        return [replace(frame, part="train") for frame in frames]
    parts = _assigned(frames, [1 - test_share, test_share], "a test part", seed)
    return [replace(frame, part=("train", "test")[parts[frame.patient]]) for frame in frames]


def _with_validation(
    frames: Sequence[LabelledFrame], fold: int | None, num_folds: int, seed: int
) -> list[LabelledFrame]:
    """Turn one fold of the training part into the validation part."""
    trained = [frame for frame in frames if frame.part == "train"]
    if fold is None or not trained:
        return list(frames)
    stated = {frame.patient: frame.fold for frame in trained if frame.fold is not None}
    folds = stated or _assigned(trained, [1 / num_folds] * num_folds, f"{num_folds} folds", seed)
    if strange := sorted({number for number in folds.values() if not 0 <= number < num_folds}):
        raise InputError("datalist", f"has folds {strange} outside 0..{num_folds - 1}", "pass the right --num_folds")
    return [
        replace(frame, part="validation") if frame.part == "train" and folds[frame.patient] == fold else frame
        for frame in frames
    ]


def _assigned(frames: Sequence[LabelledFrame], shares: Sequence[float], what: str, seed: int) -> dict[str, int]:
    patients = {frame.patient for frame in frames}
    if len(patients) < len(shares):
        problem = f"has frames of {len(patients)} patient{'s' * (len(patients) != 1)}, too few for {what}"
        raise InputError("dataset_dir", problem, "add patients, state parts, or pass a smaller --num_folds")
    return assign_groups([f.patient for f in frames], [bool(f.present) for f in frames], shares, seed)

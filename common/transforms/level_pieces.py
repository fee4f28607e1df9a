"""The pieces of bone that are one vertebra each, and whether they follow one another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

__all__ = ["EDGE", "SURE", "add_unsure", "find_pieces", "find_series"]

_SMALLEST = 0.2  # share of the median piece below which a piece is no vertebra
_SMALLEST_CUT = 0.05  # likewise of one that the upper edge of the picture cuts
_UNSURE = 0.3  # share of the median piece from which on bone without a sure core may be a vertebra
EDGE = 0.4  # of the median height: from an edge to a piece that it cuts, at most
SURE = 0.8  # probability of being a vertebra, of any level, that makes a piece: it parts those that nearly touch
_SURER = (0.9, 0.95, 0.99)  # likewise, tried in turn, of the cores of vertebrae that a blurred disc joins
_CORE = 0.1  # share of the largest core below which one is no vertebra's
_TALLEST = 1.3  # of its front-back extent, above which a piece may be two vertebrae that touch
_TALLEST_BESIDE = 1.5  # of the median height, above which it is
_BESIDE = 0.5  # share of the height of the smaller of two pieces at which both are, if they are parts of one vertebra
_STEP = (0.6, 2.2)  # of the median height: from one piece's middle to the next; more, and one is missing between
_STEP_CUT = 0.4  # likewise the least, to the middle of what is left of a piece that the edge cuts


def find_pieces(bone: np.ndarray, head_foot: int, front_back: int) -> np.ndarray:
    """Number, from 1, what hangs together of the bone; a piece too tall for one vertebra is parted between its cores.

    Args:
        bone: the probability of being a vertebra, of any level, along three axes; 0 where something else is more
            probable.
        head_foot: the axis to the feet.
        front_back: the axis to the front or the back.

    Returns:
        The numbers, 0 elsewhere.
    """
    pieces, count = ndimage.label(bone > SURE)
    for number, box in enumerate(ndimage.find_objects(pieces), 1):
        piece = pieces[box] == number
        parts = _parted(piece, bone[box], _SURER, head_foot, front_back)
        # The first part keeps the piece's number.
        pieces[box][parts > 1] = parts[parts > 1] + count - 1
        count += int(parts.max()) - 1
    return pieces


def _parted(piece: np.ndarray, bone: np.ndarray, surer: Sequence[float], head_foot: int, front_back: int) -> np.ndarray:
    """Number, from 1, the parts of a piece: one, or those that grow from its cores as long as they are too tall."""
    box = ndimage.find_objects(piece.astype(np.uint8))[0]
    tall, deep = (box[axis].stop - box[axis].start for axis in (head_foot, front_back))
    if not surer or tall <= _TALLEST * deep:
        return piece.astype(np.int32)
    cores = _cores(piece & (bone > surer[0]))
    if cores.max() < 2:
        return _parted(piece, bone, surer[1:], head_foot, front_back)
    nearest = ndimage.distance_transform_edt(cores == 0, return_distances=False, return_indices=True)
    grown = np.where(piece, cores[tuple(nearest)], 0)
    parts = np.zeros(piece.shape, np.int32)
    for core in range(1, cores.max() + 1):
        found = _parted(grown == core, bone, surer[1:], head_foot, front_back)
        parts = np.where(found > 0, found + parts.max(), parts)
    return parts


def _cores(mask: np.ndarray) -> np.ndarray:
    """Number, from 1, what hangs together of a mask and is not small beside the largest."""
    cores, count = ndimage.label(mask)
    sizes = np.bincount(cores.ravel(), minlength=count + 1)
    kept = sizes >= _CORE * sizes[1:].max(initial=0)
    kept[0] = False
    return (np.cumsum(kept) * kept)[cores]


def add_unsure(pieces: np.ndarray, bone: np.ndarray, head_foot: int) -> np.ndarray:
    """Make pieces of what hangs together of the bone, and is large enough for a vertebra without being sure anywhere.

    Below the lowest piece there are none: what is unsure there may be the sacrum.

    Args:
        pieces: as of :func:`find_pieces`.
        bone: likewise.
        head_foot: likewise.

    Returns:
        The pieces with these among them; the numbers may be others.
    """
    sizes = np.bincount(pieces.ravel())[1:]
    if not len(sizes):
        return pieces
    usual = np.median(sizes[sizes >= _SMALLEST * sizes.max()])
    large = np.isin(pieces, np.flatnonzero(sizes >= _SMALLEST * usual) + 1)
    lowest = ndimage.find_objects(large.astype(np.uint8))[0][head_foot].stop
    parts, count = ndimage.label(bone > 0)
    enough = np.bincount(parts.ravel(), minlength=count + 1) >= _UNSURE * usual
    enough[np.unique(parts[large])] = False
    result = pieces.copy()
    for number in np.flatnonzero(enough[1:]) + 1:
        part = parts == number
        if ndimage.find_objects(part.astype(np.uint8))[0][head_foot].stop < lowest:
            result[part] = result.max() + 1
    # A piece that has become a part of a larger one leaves no number behind.
    return np.unique(result, return_inverse=True)[1].reshape(pieces.shape).astype(pieces.dtype)


def find_series(pieces: np.ndarray, head_foot: int, front_back: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the pieces that follow one another from the feet to the head.

    Args:
        pieces: as of :func:`find_pieces`.
        head_foot: likewise.
        front_back: likewise.

    Returns:
        Their numbers from 1, 0 elsewhere; and the middle of each along the head-foot axis, from the feet up. Where they
        are no series there are none.
    """
    none = np.zeros_like(pieces), np.zeros(0)
    sizes, boxes = np.bincount(pieces.ravel())[1:], ndimage.find_objects(pieces)
    if len(sizes) < 2:
        return none
    large = sizes >= _SMALLEST * sizes.max()
    usual = np.median(sizes[large])
    tall = np.array([box[head_foot].stop - box[head_foot].start for box in boxes])
    cut = np.array([box[head_foot].start for box in boxes]) <= EDGE * np.median(tall[large])
    whole = np.flatnonzero(sizes >= np.where(cut, _SMALLEST_CUT, _SMALLEST) * usual) + 1
    kept = np.array([number for number in whole if not _beside(number, whole, sizes, boxes, head_foot)])
    tall, usually = tall[kept - 1], np.median(tall[kept - 1])
    deep = np.array([boxes[number - 1][front_back].stop - boxes[number - 1][front_back].start for number in kept])
    middles = np.array(ndimage.center_of_mass(pieces > 0, pieces, kept))[:, head_foot]
    order = np.argsort(-middles)
    middles, steps = middles[order], -np.diff(middles[order])
    if len(kept) < 2 or ((tall > _TALLEST * deep) & (tall > _TALLEST_BESIDE * usually)).any():
        return none
    least = np.where(cut[kept[order] - 1], _STEP_CUT, _STEP[0])[1:]
    if (steps < least * usually).any() or (steps > _STEP[1] * usually).any():
        return none
    numbers = np.zeros(len(sizes) + 1, dtype=pieces.dtype)
    numbers[kept[order]] = np.arange(1, len(kept) + 1)
    return numbers[pieces], middles


def _beside(number: int, others: np.ndarray, sizes: np.ndarray, boxes: list[tuple[slice, ...]], head_foot: int) -> bool:
    """Tell whether a piece lies beside a larger one and is a part of the same vertebra, as in a scoliosis."""
    box = boxes[number - 1]
    for other in others:
        if sizes[number - 1] >= sizes[other - 1]:
            continue
        common = [min(a.stop, b.stop) - max(a.start, b.start) for a, b in zip(box, boxes[other - 1], strict=True)]
        if min(common) > 0 and common[head_foot] >= _BESIDE * (box[head_foot].stop - box[head_foot].start):
            return True
    return False

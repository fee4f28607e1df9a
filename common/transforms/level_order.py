"""Names of vertebrae and discs that follow one another, as they do in a spine."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from scipy import ndimage

from common.data.label_scheme import LabelScheme
from common.transforms.level_pieces import EDGE, SURE, add_unsure, find_pieces, find_series

__all__ = ["OrderLevelsd"]

_SACRUM_SIZE = 0.5  # share of the median piece from which on the sacrum is seen well enough to count from
_SACRUM_GAP = 0.6  # of the median height: from the sacrum to the lowest piece, if that is L5
# By how much of the pieces' number other names must fit better before the lowest piece is not L5: lumbar exams show L5,
# and a network that has named two vertebrae alike has named all above them wrong.
_NOT_L5 = 0.45
# Likewise where the lower edge of the picture cuts the lowest piece: with the rest of the sacrum out of sight, its
# first segment is easily taken for a vertebra.
_NOT_L5_CUT = 0.1
_SACRUM, _VERTEBRA, _DISC = 1, 2, 3  # what wins a voxel: background, sacrum, vertebra of any level, disc of any level


class OrderLevelsd(MapTransform):
    """Name vertebrae and discs anew where a network's names do not follow one another.

    A network says voxel by voxel which vertebra it sees, and where it is unsure between two levels it may give one
    vertebra two names. That it is a vertebra it knows well. So the pieces of what is a vertebra of any level are put in
    order from the feet to the head. Where the lowest one stands on the sacrum it is L5. Else it is, too, unless another
    series of consecutive names is far more probable by the network itself; the lowest piece may then be a part of the
    sacrum, for which less is asked where the lower edge of the picture cuts it. The probability of all vertebrae then
    goes to the name of the nearest piece, and that of all discs to the name between its neighbours; what looks like a
    vertebra and hangs together with no piece becomes background, unless it is large enough for a vertebra and fits into
    the series: then it is one. The sacrum, the background elsewhere, and the outlines stay as they were.

    A piece too tall for one vertebra is parted where the network is less sure of bone than above and below, if there is
    such a place. Where the pieces are no series, those lower than the middle of the sacrum are none of it. If the rest
    is no series either (fewer than two, two that cannot be parted, or one missing between others), nothing is changed.

    Args:
        keys: probabilities (C, three axes) on the network's grid, with square pixels in the sagittal plane.
        scheme: name of the label scheme.
        head_foot: which of the three axes runs to the feet; by default the second, as on SAFNet's grid
            (:mod:`common.transforms.spine_grid`) and SSHSNet's (:mod:`common.transforms.sagittal_volume`).
        front_back: which of them runs to the front or the back; SAFNet's third, SSHSNet's first (0).
        allow_missing_keys: skip keys that an item lacks.
    """

    def __init__(
        self,
        keys: KeysCollection,
        scheme: str,
        head_foot: int = 1,
        front_back: int = 2,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.head_foot, self.front_back = head_foot, front_back
        structures = LabelScheme.load(scheme).structures
        # By value: S, L5, L4, ... and L5/S, L4/L5, ...: the disc of a number lies below the vertebra of that number.
        ordered = sorted(structures, key=lambda structure: structure.value)
        bones = [structure.channel for structure in ordered if not structure.is_disc]
        self.sacrum, self.vertebrae = bones[0], bones[1:]
        self.discs = [structure.channel for structure in ordered if structure.is_disc]

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        d = dict(data)
        for key in self.key_iterator(d):
            scores = d[key]
            plain = scores.as_tensor() if isinstance(scores, MetaTensor) else scores
            ordered = torch.from_numpy(self._ordered(plain.detach().float().cpu().numpy()))
            ordered = ordered.to(plain.device, plain.dtype)
            d[key] = MetaTensor(ordered).copy_meta_from(scores) if isinstance(scores, MetaTensor) else ordered
        return d

    def _ordered(self, scores: np.ndarray) -> np.ndarray:
        bone, disc = scores[self.vertebrae].sum(axis=0), scores[self.discs].sum(axis=0)
        kind = np.stack([scores[0], scores[self.sacrum], bone, disc]).argmax(axis=0)
        sacrum = _largest((kind == _SACRUM) & (scores[self.sacrum] > SURE))
        pieces, middles = self._series(np.where(kind == _VERTEBRA, bone, 0), sacrum)
        if not len(middles):
            return scores
        count = len(middles)
        evidence = np.array(
            [scores[self.vertebrae][:, pieces == number].mean(axis=1) for number in range(1, count + 1)]
        )
        known = len(self.vertebrae)
        on_sacrum = self._on_sacrum(pieces, sacrum)
        # The lowest piece may be the sacrum's first segment, which looks like a vertebra: -1.
        fits = {
            start: sum(evidence[piece, start + piece] for piece in range(count) if 0 <= start + piece < known)
            for start in ([0] if on_sacrum else range(-1, max(1, known - count + 1)))
        }
        best = max(fits, key=fits.__getitem__)
        margin = _NOT_L5_CUT if best < 0 and self._at_lower_edge(pieces) else _NOT_L5
        first = best if fits[best] > fits[0] + margin * count else 0
        result = scores.copy()
        result[self.vertebrae + self.discs] = 0
        specks = _apart_from(pieces, kind == _VERTEBRA)
        result[0] += np.where(specks, bone, 0)
        bone = np.where(specks, 0, bone)
        self._give(result, bone, pieces, [first + piece for piece in range(count)], self.vertebrae, self.sacrum)
        plates, number = ndimage.label(kind == _DISC)
        if number:
            heights = np.array(ndimage.center_of_mass(plates > 0, plates, range(1, number + 1)))[:, self.head_foot]
            # The disc below a piece has its number; so many pieces lie below this disc.
            below = [first + int((middles > height).sum()) for height in heights]
            self._give(result, disc, plates, below, self.discs)
        else:
            result[0] += disc
        return result

    def _series(self, bone: np.ndarray, sacrum: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the vertebrae that follow one another, with those of which the network is unsure if they fit in.

        Where they do not follow one another, those are left out that lie lower than the sacrum's middle.
        """
        sure = find_pieces(bone, self.head_foot, self.front_back)
        for pieces in (add_unsure(sure, bone, self.head_foot), sure, self._above_sacrum(sure, sacrum)):
            found, middles = find_series(pieces, self.head_foot, self.front_back)
            if len(middles):
                break
        return found, middles

    def _at_lower_edge(self, pieces: np.ndarray) -> bool:
        """Tell whether the lower edge of the picture cuts the lowest piece, or nearly does."""
        bottom, usual = self._bottom_and_height(pieces)
        return bool(pieces.shape[self.head_foot] - bottom <= EDGE * usual)

    def _on_sacrum(self, pieces: np.ndarray, sacrum: np.ndarray) -> bool:
        """Tell whether the lowest piece stands on the sacrum."""
        if not _seen(sacrum, pieces):
            return False
        bottom, usual = self._bottom_and_height(pieces)
        top = ndimage.find_objects(sacrum.astype(np.uint8))[0][self.head_foot].start
        return bool(top - bottom <= _SACRUM_GAP * usual)

    def _above_sacrum(self, pieces: np.ndarray, sacrum: np.ndarray) -> np.ndarray:
        """Return the pieces without those that lie lower than the sacrum's middle: bladder, bowel, coccyx."""
        if not _seen(sacrum, pieces):
            return pieces
        numbers = np.arange(1, pieces.max() + 1)
        middles = np.array(ndimage.center_of_mass(pieces > 0, pieces, numbers))[:, self.head_foot]
        low = numbers[middles > ndimage.center_of_mass(sacrum)[self.head_foot]]
        left = np.where(np.isin(pieces, low), 0, pieces)
        return np.unique(left, return_inverse=True)[1].reshape(pieces.shape).astype(pieces.dtype)

    def _bottom_and_height(self, pieces: np.ndarray) -> tuple[int, float]:
        """Return where the lowest piece ends, and the pieces' median height, both in voxels."""
        heights = [box[self.head_foot] for box in ndimage.find_objects(pieces)]
        return heights[0].stop, float(np.median([height.stop - height.start for height in heights]))

    @staticmethod
    def _give(
        result: np.ndarray,
        share: np.ndarray,
        pieces: np.ndarray,
        levels: list[int],
        channels: list[int],
        below: int = 0,
    ) -> None:
        """Add probabilities to the channel of the nearest piece.

        Those of levels above all channels go to the background, those of levels below to the channel ``below``.
        """
        nearest = ndimage.distance_transform_edt(pieces == 0, return_distances=False, return_indices=True)
        by_level = dict(enumerate(channels)) | {-1: below}
        target = np.array([0] + [by_level.get(level, 0) for level in levels])
        where = target[pieces[tuple(nearest)]]
        for channel in np.unique(where):
            result[channel] += np.where(where == channel, share, 0)


def _largest(mask: np.ndarray) -> np.ndarray:
    """Return the largest part of a mask that hangs together."""
    parts, count = ndimage.label(mask)
    return parts == np.bincount(parts.ravel())[1:].argmax() + 1 if count else mask


def _seen(sacrum: np.ndarray, pieces: np.ndarray) -> bool:
    """Tell whether so much of the sacrum is seen that vertebrae can be counted from it."""
    sizes = np.bincount(pieces.ravel())[1:]
    return bool(len(sizes) and sacrum.any() and sacrum.sum() >= _SACRUM_SIZE * np.median(sizes))


def _apart_from(pieces: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return what of a mask hangs together with no piece."""
    parts, count = ndimage.label(mask)
    joined = np.zeros(count + 1, bool)
    joined[parts[pieces > 0]] = True
    joined[0] = True
    return ~joined[parts]

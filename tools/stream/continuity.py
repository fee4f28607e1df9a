"""Whether frames follow each other, so that what was seen before still says something about now."""

from __future__ import annotations

import numpy as np

from common.data.video import Frame

__all__ = ["Continuity"]

_TILES = 12  # a picture is compared by so many mean colours per side


class Continuity:
    """Tell cuts, gaps in the time stamps and jumps back.

    Frames that were dropped because they came too fast are no gap: their numbers are missing, but the time that passed
    is theirs.

    Args:
        cut: how different two frames are that have a cut between them: mean absolute difference of the mean colours of
            12 x 12 tiles, as a share of full scale. Between frames of a moving camera it is below 0.05 as a rule.
        gap: seconds by which the time stamps have to run ahead of the number of frames.
        frame_rate: of the source; where it is not known, the shortest step so far counts as its period.

    Attributes:
        scene: number of the scene of the last frame: of the breaks so far.
        counts: how often there was each kind of break.
    """

    def __init__(self, cut: float = 0.15, gap: float = 0.5, frame_rate: float | None = None) -> None:
        self.cut, self.gap = cut, gap
        self._stated = bool(frame_rate)
        self._period = 1 / frame_rate if frame_rate else float("inf")
        self._last: Frame | None = None
        self._tiles: np.ndarray | None = None
        self.scene = 0
        self.counts: dict[str, int] = {}

    def breaks(self, frame: Frame) -> str | None:
        """Return why a frame does not follow the one before it: ``cut``, ``gap``, ``jump back`` or ``new size``.

        Returns:
            None when it does, or is the first.
        """
        why = self._compared(frame)
        if why is not None:
            self.scene += 1
            self.counts[why] = self.counts.get(why, 0) + 1
        return why

    def _compared(self, frame: Frame) -> str | None:
        last, before = self._last, self._tiles
        self._last, self._tiles = frame, _tiles(frame.image)
        if last is None:
            return None
        if frame.image.shape != last.image.shape:
            return "new size"
        step, count = frame.time - last.time, frame.index - last.index
        if step < 0 or count < 0:
            return "jump back"
        if not self._stated and step > 0:
            self._period = min(self._period, step / max(count, 1))
        if step - count * self._period > self.gap:
            return "gap"
        if before is not None and float(np.abs(self._tiles - before).mean()) > self.cut:
            return "cut"
        return None


def _tiles(image: np.ndarray) -> np.ndarray:
    """Return mean colours in 0..1, taken from every few pixels: a tile need not be known to the last digit."""
    height, width = image.shape[:2]
    rows, columns = (np.linspace(0, side - 1, 4 * _TILES).astype(int) for side in (height, width))
    sampled = image[np.ix_(rows, columns)].astype(np.float32) / 255
    return sampled.reshape(_TILES, 4, _TILES, 4, 3).mean(axis=(1, 3))

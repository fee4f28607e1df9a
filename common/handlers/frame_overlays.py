"""Pictures of a few frames, with outlines, beside the tables of an evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from common.data.frames import read_frame, read_mask
from common.data.frames.labelled_frame import MaskReference
from common.data.video.layouts import FrameReference
from common.errors import InputError
from common.visualize.outlined_frame import save_outlined

__all__ = ["FrameOverlay", "check_file_id", "overlays_in", "spread_frames", "write_overlays"]

_FOLDER, _SUFFIX = "overlays", ".jpg"
_COUNT = 9  # odd, so that the middle is among them


@dataclass(frozen=True)
class FrameOverlay:
    """What one picture shows.

    Args:
        case: id of what it stands for in the tables; the file is called after it.
        frame: where the frame is.
        reference: where what is drawn on it is; None where nothing is.
        mask: (h, w), what the model marks; None of a model that marks nothing.
        words: are written into the picture; with a mask the share of the frame that it covers is put behind them, as a
            mask that is everywhere has no outline either.
    """

    case: str
    frame: FrameReference
    reference: MaskReference | None
    mask: np.ndarray | None
    words: str

    @property
    def caption(self) -> str:
        """All that is written into the picture."""
        if self.mask is None:
            return self.words
        share = 100 * np.count_nonzero(self.mask) / self.mask.size
        return f"{self.words} · marks {share:.{1 if 0 < share < 10 else 0}f} %"


def check_file_id(name: str) -> None:
    """Fail where a picture that is called after a frame would lie outside of the folder.

    Raises:
        InputError: it would.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or not path.parts:
        raise InputError(f"frame id {name[:100]!a}", "cannot be a file's name", "mend the datalist")


def spread_frames(scores: np.ndarray, ids: Sequence[str]) -> list[int]:
    """Return places of frames that stand for all: the best, the median, the worst, and evenly between them.

    Args:
        scores: of N frames, higher is better, (N,).
        ids: of the frames, N, which decide between equal scores.

    Returns:
        At most nine places, from the best to the worst; all where there are no more.
    """
    order = sorted(range(len(ids)), key=lambda at: (-scores[at], ids[at]))
    chosen = np.linspace(0, len(order) - 1, min(_COUNT, len(order))).astype(int)
    return [order[place] for place in chosen]


def write_overlays(folder: Path, overlays: Iterable[FrameOverlay]) -> None:
    """Write ``overlays/ID.jpg`` for each, and remove those that an earlier evaluation left there.

    Args:
        folder: of the evaluation.
        overlays: none to remove only.

    Raises:
        InputError: a frame cannot be read, or a picture cannot be written.
    """
    before, written = overlays_in(folder), set()
    for one in overlays:
        picture = read_frame(one.frame)
        size = picture.shape[:2]
        reference = np.zeros(size, bool) if one.reference is None else read_mask(one.reference, size)
        save_outlined(folder / _FOLDER / f"{one.case}{_SUFFIX}", picture, reference, one.mask, one.caption)
        written.add(one.case)
    for case in before.keys() - written:
        before[case].unlink(missing_ok=True)


def overlays_in(folder: Path) -> dict[str, Path]:
    """Return the pictures that an evaluation has left in its folder, by the id of what they stand for."""
    root = folder / _FOLDER
    return {
        path.relative_to(root).as_posix().removesuffix(_SUFFIX): path
        for path in sorted(root.rglob(f"*{_SUFFIX}"))
        if not path.name.startswith(".")  # of a write that was cut off
    }

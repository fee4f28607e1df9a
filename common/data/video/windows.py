"""Which frames of a sequence make up the clips that are trained on, and those that are scored."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Window", "scoring_windows", "training_windows"]


@dataclass(frozen=True)
class Window:
    """A clip of T frames of one sequence.

    Args:
        frames: T indices from 0, in time order; the first one may be repeated.
        keep: T booleans: whose predictions count. Over the scoring windows of a sequence every frame counts once.
    """

    frames: tuple[int, ...]
    keep: tuple[bool, ...]


def _check(length: int, frames: int) -> None:
    if length < 1 or frames < 1:
        raise ValueError(f"a sequence and a clip have at least one frame, got {length} and {frames}")


def _filled(length: int, frames: int) -> Window:
    """Return the clip of a whole sequence that is shorter than it."""
    missing = frames - length
    return Window((0,) * missing + tuple(range(length)), (False,) * missing + (True,) * length)


def scoring_windows(length: int, frames: int) -> list[Window]:
    """Cover a sequence with clips, end to end; the last one is shifted back where fewer than T frames remain.

    This is the rule of PNS+ (Ji et al., "Video polyp segmentation: a deep learning perspective", 2022). That of
    PNS-Net (Ji et al., MICCAI 2021), which FUnet's authors evaluate with, differs in that it misses one frame of each
    sequence with one frame more than a multiple of T. Where two windows overlap the later one counts. In a sequence
    shorter than T the first frame fills the places before it, as at the start of a stream
    (:class:`common.inferers.FrameStream`): a single frame gives what it gives to the network as a clip of itself.

    Args:
        length: number L of frames of the sequence.
        frames: number T of frames of a clip.

    Raises:
        ValueError: a number is below 1.
    """
    _check(length, frames)
    if length < frames:
        return [_filled(length, frames)]
    starts = [min(start, length - frames) for start in range(0, length, frames)]
    windows = []
    for start, following in zip(starts, [*starts[1:], length], strict=True):
        positions = range(start, start + frames)
        windows.append(Window(tuple(positions), tuple(position < following for position in positions)))
    return windows


def training_windows(length: int, frames: int, every_frame: bool = False) -> list[Window]:
    """Return the clips of a sequence that are trained on, one for each start.

    PNS-Net's, whose training FUnet follows, start at 1 to L - 6 for T = 5: the sequence's first and last frame are
    never used, and there are L - T - 1 clips. A sequence of fewer than T + 2 frames has none.

    Args:
        length: number L of frames of the sequence.
        frames: number T of frames of a clip.
        every_frame: start at 0 to L - T instead; a sequence shorter than T gives the clip that is scored, too.

    Raises:
        ValueError: a number is below 1.
    """
    _check(length, frames)
    if every_frame and length < frames:
        return [_filled(length, frames)]
    starts = range(length - frames + 1) if every_frame else range(1, length - frames)
    return [Window(tuple(range(start, start + frames)), (True,) * frames) for start in starts]

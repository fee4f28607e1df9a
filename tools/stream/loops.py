"""The two ways through a source: at its own pace, and frame by frame."""

from __future__ import annotations

import time
from collections.abc import Iterable

from common.data.video import Frame
from common.data.video.live import LiveSource
from tools.stream.continuity import Continuity
from tools.stream.ctrl_c import CtrlC
from tools.stream.outlines import Outlines
from tools.stream.pictures import Pictures
from tools.stream.segmentation import Segmentation
from tools.stream.worker import NewestFrameWorker

__all__ = ["follow_live", "go_through"]

_POLL = 0.05  # seconds without a frame after which the window and the worker are looked at
_USUAL_RATE = 30.0  # frames per second where the source does not state it
_SHARE = 0.75  # of the time between two frames that a picture may take


def follow_live(
    source: LiveSource,
    worker: NewestFrameWorker,
    continuity: Continuity,
    outlines: Outlines,
    pictures: Pictures,
    ctrl_c: CtrlC,
) -> None:
    """Show every frame as it comes, and have the newest segmented meanwhile.

    A picture is held back for its own outline where that is about to be there: if its frame is being segmented, for
    as long as the time between two frames allows. It never waits for a frame before it.

    It ends with the source, whose last frame is segmented before; when the window is closed; on Ctrl-C; or when the
    worker ends.

    Raises:
        InputError: the source was lost, a frame could not be segmented, or the video not be written.
    """
    period, spent = 1 / (source.frame_rate or _USUAL_RATE), 0.0
    while not (worker.ended or pictures.closed or ctrl_c.pressed):
        frame = source.latest(timeout=_POLL)
        if frame is None:
            if source.ended:
                break
            pictures.refresh()
            continue
        continuity.breaks(frame)
        worker.offer(frame, continuity.scene)
        worker.wait_for(frame, max(0.0, _SHARE * period - spent))
        begun = time.perf_counter()
        pictures.show(frame, *outlines.choose(frame, continuity.scene, worker.newest))
        spent = time.perf_counter() - begun
        pictures.times.add("picture", spent)
    if not (pictures.closed or ctrl_c.pressed):
        worker.finish()


def go_through(
    source: Iterable[Frame],
    segmentation: Segmentation,
    continuity: Continuity,
    pictures: Pictures,
    ctrl_c: CtrlC,
    most: int | None,
) -> None:
    """Segment every frame, and show each with its own outline.

    It ends with the source, after ``most`` frames, when the window is closed, or on Ctrl-C.

    Raises:
        InputError: the source broke off, a frame could not be segmented, or the video not be written.
    """
    for frame in source:
        taken = time.perf_counter()
        continuity.breaks(frame)
        pictures.show(frame, segmentation(frame, continuity.scene).mask)
        pictures.times.add("whole frame", time.perf_counter() - taken)
        if pictures.closed or ctrl_c.pressed or segmentation.segmented == most:
            break

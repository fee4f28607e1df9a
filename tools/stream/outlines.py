"""Which outline belongs on a picture that is shown now."""

from __future__ import annotations

import numpy as np

from common.data.video import Frame
from tools.stream.timing import StepTimes
from tools.stream.worker import Done

__all__ = ["Outlines"]


class Outlines:
    """Choose the newest outline, as long as it still says something about the picture.

    An outline's age is the time between the frame that it was found in and the picture, by the source's time stamps:
    0 on its own frame. An outline that is too old, or from before a cut, a gap or a jump, is not drawn.

    Args:
        max_age: seconds from which on an outline is too old.

    Attributes:
        counts: number of pictures by what they got: the outline of their ``own`` frame, that of an ``earlier`` one,
            none as it was ``too_old``, or ``none`` as there was none of their scene. A mask that is empty counts as an
            outline: that there is nothing is known then.
        ages: of the newest outline of the scene at each picture, drawn or too old, under the name ``age``.
    """

    def __init__(self, max_age: float) -> None:
        self.max_age = max_age
        self.counts = {"own": 0, "earlier": 0, "too_old": 0, "none": 0}
        self.ages = StepTimes()

    def choose(self, frame: Frame, scene: int, newest: Done | None) -> tuple[np.ndarray | None, bool]:
        """Return the mask to outline on a picture, None for none, and whether it is of this very frame.

        Args:
            frame: the picture.
            scene: number of its scene.
            newest: what was segmented last.
        """
        if newest is None or newest.scene != scene:
            self.counts["none"] += 1
            return None, False
        age = frame.time - newest.frame.time
        self.ages.add("age", age)
        if age > self.max_age:
            self.counts["too_old"] += 1
            return None, False
        own = newest.frame is frame
        self.counts["own" if own else "earlier"] += 1
        return newest.result.mask, own

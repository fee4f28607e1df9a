"""Pictures with an outline, into a window or a video."""

from __future__ import annotations

from os import PathLike
from types import TracebackType

import numpy as np

from common.data.video import Frame, OverlayVideoWriter
from common.visualize import draw_outline
from tools.stream.timing import StepTimes
from tools.stream.window import Window

__all__ = ["EARLIER_COLOR", "Pictures"]

EARLIER_COLOR = (0, 150, 60)  # a darker shade of the outline's own


class Pictures:
    """Draw outlines and show or write the pictures.

    An outline of the picture's own frame is drawn bright and broad, one of an earlier frame as a darker, finer line.

    Args:
        output: the video to write, which begins with the first picture; None: none.
        window: to show them in; None: none.
        frame_rate: of the source, where known.

    Attributes:
        shown: number of pictures so far.
        times: of the steps ``draw``, ``write`` and ``show``.

    Used in a ``with`` block, whose end closes the video.
    """

    def __init__(self, output: str | PathLike | None, window: Window | None, frame_rate: float | None) -> None:
        self.shown = 0
        self.times = StepTimes()  # not of the device: what is shown does not wait for the network
        self._output, self._window, self._frame_rate = output, window, frame_rate
        self._writer: OverlayVideoWriter | None = None

    @property
    def closed(self) -> bool:
        """Whether the user has closed the window."""
        return self._window is not None and self._window.closed

    def show(self, frame: Frame, mask: np.ndarray | None, own: bool = True) -> None:
        """Show the next picture.

        Args:
            frame: the picture.
            mask: (H, W), what to outline; None: nothing.
            own: whether the mask was found in this very frame.

        Raises:
            InputError: it cannot be written.
        """
        if self._output is not None or self._window is not None:
            self._give_out(frame, mask, own)
        self.shown += 1  # not before: a run may be ended while it draws or writes

    def _give_out(self, frame: Frame, mask: np.ndarray | None, own: bool) -> None:
        with self.times.step("draw"):
            if mask is None:
                picture = frame.image
            elif own:
                picture = draw_outline(frame.image, mask)
            else:
                picture = draw_outline(frame.image, mask, EARLIER_COLOR, width=1)
        if self._output is not None:
            with self.times.step("write"):
                if self._writer is None:
                    self._writer = OverlayVideoWriter(self._output, frame.image.shape[:2], self._frame_rate)
                self._writer.write(picture, frame.time)
        if self._window is not None:
            with self.times.step("show"):
                self._window.show(picture)

    def refresh(self) -> None:
        """Let the window react while there is no new picture."""
        if self._window is not None:
            self._window.refresh()

    def __enter__(self) -> Pictures:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.__exit__(kind, error, traceback)

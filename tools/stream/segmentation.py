"""Frames segmented, counted and entered into a table."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike

from common.data.video import Frame
from common.data.video.row_writer import RowWriter
from tools.stream.pipeline import FramePipeline, SegmentedFrame

__all__ = ["FrameTable", "Segmentation"]

_GATE = ("p_present", "present", "seg_ran")


class FrameTable:
    """A CSV file with a row for each segmented frame.

    Columns: ``frame`` (its number), ``time_s``; of a network with a gate ``p_present``, ``present`` and ``seg_ran`` (0
    or 1); ``area_px`` of the mask; and ``ms_STEP`` of each step, empty where the step was not taken.

    Args:
        path: the file.
        pipeline: whose frames they are.

    Raises:
        InputError: it cannot be written.
    """

    def __init__(self, path: str | PathLike, pipeline: FramePipeline) -> None:
        self._gate, self._steps = pipeline.two_stages, pipeline.steps
        gate = _GATE if self._gate else ()
        self._rows = RowWriter(path, ("frame", "time_s", *gate, "area_px", *(f"ms_{step}" for step in self._steps)))

    def add(self, frame: Frame, found: SegmentedFrame) -> None:
        """Add a row.

        Raises:
            InputError: it cannot be written.
        """
        gate = (f"{found.p_present:.6f}", int(found.present), int(found.seg_ran)) if self._gate else ()
        times = (found.milliseconds.get(step) for step in self._steps)
        taken = ("" if time is None else f"{time:.3f}" for time in times)
        self._rows.write((frame.index, f"{frame.time:.6f}", *gate, int(found.mask.sum()), *taken))

    def close(self) -> None:
        """Give the file its name."""
        self._rows.close()


class Segmentation:
    """Segment frames, each scene on its own, and count.

    Args:
        pipeline: what segments; :meth:`FramePipeline.reset` is called where a scene begins.
        add_row: called with each frame and what was found.

    Attributes:
        segmented: number of frames.
        found: number of those with a mask that is not empty.
        present: number of those that passed the gate, if there is one.
    """

    def __init__(self, pipeline: FramePipeline, add_row: Callable[[Frame, SegmentedFrame], None] | None = None) -> None:
        self._pipeline, self._add_row = pipeline, add_row
        self._scene = 0
        self.segmented = self.found = self.present = 0

    def __call__(self, frame: Frame, scene: int) -> SegmentedFrame:
        """Segment the next frame.

        Args:
            frame: the frame.
            scene: number of its scene, from 0; another one than the last frame's begins anew.

        Raises:
            InputError: it cannot be segmented, or the table cannot be written.
        """
        if scene != self._scene:
            self._pipeline.reset()
            self._scene = scene
        result = self._pipeline(frame)
        if self._add_row is not None:
            self._add_row(frame, result)
        self.segmented += 1
        self.found += bool(result.mask.any())
        self.present += bool(result.present)
        return result

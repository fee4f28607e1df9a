"""What an inference run writes for each video."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents

from common.data.atomic import write_json
from common.data.provenance import provenance
from common.data.video import ClipStream, MaskVideoWriter, OverlayVideoWriter, write_mask_png
from common.data.video.frame_folder import frame_files
from common.data.video.row_writer import RowWriter
from common.errors import InputError
from common.visualize import draw_outline

__all__ = ["VideoSegmentationWriter"]

logger = logging.getLogger(__name__)

_STEPS = ("ms_read", "ms_network", "ms_postprocess", "ms_write")
_COLUMNS = ("frame", "name", "time_s", "area_px", "area_share", "mean_probability", "mask_probability", *_STEPS)
_REMEDY = "pass another --output_dir, or --overwrite true"


class VideoSegmentationWriter:
    """Write masks, an overlay video, a table of the frames and provenance for each video, into one folder.

    For a video ``NAME.mp4``: ``NAME_mask.mkv`` (lossless, 0 and 255); for a folder of frames: ``NAME_mask/FRAME.png``.
    Both have the source's size and times. Then ``NAME_overlay.mp4`` (the mask's outline on the frames),
    ``NAME_frames.csv`` (a row a frame: time, area, probability, milliseconds per step) and ``NAME_seg.json``
    (provenance). Videos are written frame by frame: when the source breaks off, or the run does, what was done so far
    can be played, and the table goes as far.

    Columns: ``area_px`` and ``area_share`` of the mask; on the network's grid, ``mean_probability`` over the frame and
    ``mask_probability`` where it reaches the threshold (blank where it nowhere does); the steps' times are those of the
    frame's clip, shared by the frames that count in it.

    Args:
        output_dir: the folder.
        clips: where the frames come from.
        bundle_root: for the provenance.
        weights: the file of the weights, for the provenance.
        settings: what was set, for the provenance.
        overlay: whether to make the overlay video.
        mask_format: ``video`` or ``png``; None: a video for a video, PNG files for a folder of frames.
        overwrite: replace outputs of an earlier run; otherwise they are refused before anything is computed.
        threshold: from which probability on a pixel is in the mask, for ``mask_probability``.
        device: of the network; on CUDA each step is waited for, so that its time is its own.

    It takes from the engine ``pred`` (T, H, W), the masks on the source's grid, and ``prob`` (T, ...), probabilities on
    any grid; and from the batch what :class:`common.data.video.ClipStream` gives.

    Raises:
        InputError: ``mask_format`` is none of these, or an output exists.
    """

    def __init__(
        self,
        output_dir: str | Path,
        clips: ClipStream,
        bundle_root: str | Path,
        weights: str | Path,
        settings: Mapping[str, Any] | None = None,
        overlay: bool = True,
        mask_format: str | None = None,
        overwrite: bool = False,
        threshold: float = 0.5,
        device: str | torch.device = "cpu",
    ) -> None:
        if mask_format not in (None, "video", "png"):
            raise InputError(f"--mask_format {mask_format}", "is not known", "choose video or png")
        self.folder, self.clips = Path(output_dir).resolve(), clips
        self.bundle_root, self.weights, self.settings = bundle_root, weights, dict(settings or {})
        self.overlay, self.mask_format, self.overwrite = overlay, mask_format, overwrite
        self.threshold, self.device = float(threshold), torch.device(device)
        self._source: int | None = None
        if not overwrite:
            self._refuse_existing()

    def attach(self, engine: Engine) -> None:
        """Follow the evaluator."""
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._mark, "read")
        engine.add_event_handler(Events.ITERATION_STARTED, self._mark, "network")
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._mark, "postprocess")
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._clip)
        engine.add_event_handler(Events.COMPLETED, self._completed)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._interrupted)

    def _refuse_existing(self) -> None:
        for name in self.clips.names:
            for end in ("mask.mkv", "mask", "overlay.mp4", "frames.csv", "seg.json"):
                if (path := self.folder / f"{name}_{end}").exists():
                    raise InputError(path, "exists", _REMEDY)

    def _mark(self, engine: Engine, step: str) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self._marks[step] = time.perf_counter()

    def _started(self, engine: Engine) -> None:
        self._marks: dict[str, float] = {}
        self._reported = time.monotonic()

    def _clip(self, engine: Engine) -> None:
        self._mark(engine, "write")
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            if item["source"] != self._source:
                self._close()
                self._open(int(item["source"]))
            self._write(item, output)
        if time.monotonic() - self._reported > 10:
            self._reported = time.monotonic()
            source = self.clips.opened[self._source]
            of = f" of about {source.frame_count}" if source.frame_count else ""
            logger.info("%s: %d%s frames", self._name, self._table.rows, of)

    def _write(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> None:
        masks = np.asarray(output["pred"].cpu()).astype(np.uint8) * 255
        means = output["prob"].float().flatten(1).mean(dim=1).tolist()
        inside = [_mean_where(probability, probability >= self.threshold) for probability in output["prob"].float()]
        kept, rows = [at for at, keep in enumerate(item["keep"]) if keep], []
        for at in kept:
            mask, seconds = masks[at], float(item["times"][at])
            if self._mask is not None:
                self._mask.write(mask, seconds)
            else:
                write_mask_png(self.folder / f"{self._name}_mask" / f"{item['names'][at]}.png", mask)
            if self._overlay is not None:
                self._overlay.write(draw_outline(np.asarray(item["picture"][at]), mask), seconds)
            area = int(np.count_nonzero(mask))
            row = (int(item["frames"][at]), item["names"][at], f"{seconds:.4f}", area, f"{area / mask.size:.5f}")
            rows.append((*row, f"{means[at]:.5f}", inside[at]))
            self._found += area > 0
        times = [f"{value / len(kept):.2f}" for value in self._milliseconds()]
        for row in rows:
            self._table.write((*row, *times))

    def _milliseconds(self) -> Iterator[float]:
        marks = [*(self._marks[step] for step in ("read", "network", "postprocess", "write")), time.perf_counter()]
        return ((end - begin) * 1000 for begin, end in pairwise(marks))

    def _open(self, place: int) -> None:
        source = self.clips.opened[place]
        self._name, self._found = self.clips.names[place], 0
        as_video = source.is_video if self.mask_format is None else self.mask_format == "video"
        stem, options = self.folder / self._name, (source.size, source.frame_rate, self.overwrite)
        self._mask = self._overlay = None
        with ExitStack() as opened:  # what was opened is closed where the next one cannot be
            if as_video:
                self._mask = MaskVideoWriter(stem.with_name(f"{stem.name}_mask.mkv"), *options)
                opened.callback(self._mask.close)
            if self.overlay:
                self._overlay = OverlayVideoWriter(stem.with_name(f"{stem.name}_overlay.mp4"), *options)
                opened.callback(self._overlay.close)
            self._table = RowWriter(stem.with_name(f"{stem.name}_frames.csv"), _COLUMNS)
            opened.callback(self._table.close)
            self._writers = opened.pop_all()
        self._source = place

    def _close(self) -> None:
        if self._source is None:
            return
        source, path = self.clips.opened[self._source], self.clips.sources[self._source]
        self._source = None
        self._writers.close()
        files = [path] if source.is_video else frame_files(path)
        settings = self.settings | {"frames": self._table.rows}
        write_json(
            self.folder / f"{self._name}_seg.json",
            provenance(self.bundle_root, self.weights, path, settings, files=files),
        )
        logger.info(
            "%s: %d frames, something found in %d -> %s", self._name, self._table.rows, self._found, self.folder
        )

    def _completed(self, engine: Engine) -> None:
        self._close()

    def _interrupted(self, engine: Engine, error: BaseException) -> None:
        try:
            self._close()
        except InputError:
            logger.exception("Closing what was written")  # the error on its way says more
        raise error


def _mean_where(values: torch.Tensor, where: torch.Tensor) -> str:
    return f"{float(values[where].mean()):.5f}" if bool(where.any()) else ""

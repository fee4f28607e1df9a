"""What an inference run writes for each video."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from PIL import Image

from common.data.atomic import atomic_path, write_json
from common.data.provenance import differences, provenance, read_provenance
from common.data.video import ClipStream, MaskVideoWriter, OverlayVideoWriter, write_mask_png
from common.data.video.frame_folder import frame_files
from common.data.video.row_writer import RowWriter
from common.data.video.still_pictures import StillPictures
from common.errors import InputError
from common.handlers.frame_times import FrameTimes
from common.inferers.gated import GatedInferer
from common.visualize import draw_outline
from common.visualize.caption import draw_caption

__all__ = ["VideoSegmentationWriter"]

logger = logging.getLogger(__name__)

_COLUMNS = ("frame", "name", "time_s", "area_px", "area_share", "mean_probability", "mask_probability")
_GATE_COLUMNS = ("p_present", "present", "seg_ran")
_OUTPUTS = ("mask.mkv", "mask", "overlay.mp4", "frames.csv", "seg.json")
_STILL_OUTPUTS = ("mask.png", "overlay", "overlay.png")
_REMEDY = "pass another --output_dir, or --overwrite true"


class VideoSegmentationWriter:
    """Write masks, an overlay video, a table of the frames and provenance for each video, into one folder.

    For a video ``NAME.mp4``: ``NAME_mask.mkv`` (lossless, 0 and 255); for a folder of frames: ``NAME_mask/FRAME.png``.
    Both have the source's size and times. Then ``NAME_overlay.mp4`` (the mask's outline on the frames),
    ``NAME_frames.csv`` (a row a frame: time, area, probability, milliseconds per step) and ``NAME_seg.json``
    (provenance). Videos are written frame by frame: when the source breaks off, or the run does, what was done so far
    can be played, and the table goes as far.

    Where frames are looked at one by one (``ClipStream(still=True)``), those of a folder may differ in size; their
    overlays are ``NAME_overlay/FRAME.png`` then. Those of a single picture are ``NAME_mask.png``, ``NAME_overlay.png``.

    Columns: ``area_px`` and ``area_share`` of the mask; on the network's grid, ``mean_probability`` over the frame and
    ``mask_probability`` where it reaches the threshold (blank where it nowhere does); the steps' times are those of the
    frame's clip, shared by the frames that count in it.

    Of a two-stage network (:class:`common.handlers.StageOutputs`) the table has ``p_present``, ``present`` (1 where the
    frame passes the gate) and ``seg_ran``, and the overlay says so where the gate is closed. With ``stages`` it has
    ``ms_classifier`` and ``ms_segmenter``, which ``ms_network`` includes; the segmenter's time is shared by the frames
    on which it was called.

    Args:
        output_dir: the folder.
        clips: where the frames come from.
        bundle_root: for the provenance.
        weights: the file of the weights, for the provenance.
        settings: what was set, for the provenance.
        overlay: whether to make the overlay.
        mask_format: ``video`` or ``png``; None: a video for a video, PNG files for pictures.
        overwrite: replace outputs of an earlier run; otherwise they are refused before anything is computed. What this
            run does not write of them is removed when it begins to write that video: PNG files of other frames, say.
        threshold: from which probability on a pixel is in the mask, for ``mask_probability``.
        device: of the network; on CUDA each step is waited for, so that its time is its own.
        stages: the engine's inferer, where it is one of two stages.

    Attributes:
        written: the mask of each video that this run has finished, by the video's name; also of one that breaks off.

    It takes from the engine ``pred`` (T, H, W) or (T, 1, H, W), the masks on the source's grid, and ``prob`` (T, ...),
    probabilities on any grid; from a two-stage network ``p_present``, ``passes`` and ``seg_ran`` (T); and from the
    batch what :class:`common.data.video.ClipStream` gives.

    Raises:
        InputError: ``mask_format`` is none of these, or ``video`` for frames of different sizes; an output exists, or
            is an input.
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
        stages: GatedInferer | None = None,
    ) -> None:
        if mask_format not in (None, "video", "png"):
            raise InputError(f"--mask_format {mask_format}", "is not known", "choose video or png")
        self.folder, self.clips = Path(output_dir).resolve(), clips
        self.bundle_root, self.weights, self.settings = bundle_root, weights, dict(settings or {})
        self.overlay, self.mask_format, self.overwrite = overlay, mask_format, overwrite
        self.threshold, self._times = float(threshold), FrameTimes(torch.device(device), stages)
        self.written: dict[str, Path] = {}
        self._source: int | None = None
        self._refuse_existing()
        if clips.still and mask_format == "video":
            self._refuse_sizes()

    def attach(self, engine: Engine) -> None:
        """Follow the evaluator."""
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._begin, "read")
        engine.add_event_handler(Events.ITERATION_STARTED, self._begin, "network")
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._begin, "postprocess")
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._clip)
        engine.add_event_handler(Events.COMPLETED, self._completed)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._interrupted)

    def _outputs(self, name: str) -> list[Path]:
        """Return all that a run may write for a video, in any form."""
        return [self.folder / f"{name}_{end}" for end in _OUTPUTS + (_STILL_OUTPUTS if self.clips.still else ())]

    def existing(self, name: str, source: str | Path) -> list[str] | None:
        """Compare what an earlier run has left of a video with what this one would write.

        Args:
            name: stem of the files.
            source: the video.

        Returns:
            In what its provenance differs (:func:`common.data.provenance.differences`); an empty list where this run
            would write the same again; None where there is nothing, or not all that this run would write.

        Raises:
            InputError: the provenance cannot be read.
        """
        found = read_provenance(self.folder / f"{name}_seg.json")
        if found is None:
            return None
        if other := differences(found, self._provenance(Path(source), self._files(Path(source)))):
            return other
        names = [str(found.get("segmentation")), f"{name}_frames.csv"]
        if self.overlay:
            names.append(str(found.get("overlay")))
        complete = found.get("complete") is True and found.get("mask_format") == self.mask_format
        return [] if complete and all((self.folder / one).exists() for one in names) else None

    def _provenance(self, path: Path, files: list[Path]) -> dict[str, Any]:
        return provenance(self.bundle_root, self.weights, path, self.settings, files=files)

    @staticmethod
    def _files(path: Path) -> list[Path]:
        return frame_files(path) if path.is_dir() else [path]

    def _refuse_existing(self) -> None:
        inputs = {path.resolve() for path in self.clips.sources}
        for path in (path for name in self.clips.names for path in self._outputs(name)):
            if not self.overwrite and path.exists():
                raise InputError(path, "exists", _REMEDY)
            if path.resolve() in inputs:
                raise InputError(path, "is an input and would be overwritten", "pass another --output_dir")

    def _refuse_sizes(self) -> None:
        for path in self.clips.sources:
            if path.is_dir() and StillPictures(path).sizes_differ:
                raise _no_video(path)

    def _begin(self, engine: Engine, step: str) -> None:
        self._times.begin(step)

    def _started(self, engine: Engine) -> None:
        self._reported = time.monotonic()

    def _clip(self, engine: Engine) -> None:
        self._times.begin("write")
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            if item["source"] != self._source:
                self._close()
                self._open(int(item["source"]), gated="p_present" in output)
            self._write(item, output)
        if time.monotonic() - self._reported > 10:
            self._reported = time.monotonic()
            source = self.clips.opened[self._source]
            of = f" of about {source.frame_count}" if source.frame_count else ""
            logger.info("%s: %d%s frames", self._name, self._table.rows, of)

    def _write(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> None:
        masks = np.asarray(output["pred"].flatten(0, -3).cpu()).astype(np.uint8) * 255
        means = output["prob"].float().flatten(1).mean(dim=1).tolist()
        inside = [_mean_where(probability, probability >= self.threshold) for probability in output["prob"].float()]
        # Without a gate all frames pass.
        passes, ran = (output[key].tolist() if self._gated else [True] * len(masks) for key in ("passes", "seg_ran"))
        p_present = output["p_present"].tolist() if self._gated else None
        kept, rows = [at for at, keep in enumerate(item["keep"]) if keep], []
        for at in kept:
            mask, seconds, name = masks[at], float(item["times"][at]), item["names"][at]
            if self._mask is not None:
                self._mask.write(mask, seconds)
            else:
                write_mask_png(self._png("mask", name), mask)
            if self.overlay:
                picture = draw_outline(np.asarray(item["picture"][at]), mask)
                if not passes[at]:
                    picture = draw_caption(picture, f"no tissue {p_present[at]:.2f}")
                self._write_overlay(picture, name, seconds)
            area = int(np.count_nonzero(mask))
            row = [int(item["frames"][at]), name, f"{seconds:.4f}", area, f"{area / mask.size:.5f}"]
            row += [f"{means[at]:.5f}", inside[at]]
            if self._gated:
                row += [f"{p_present[at]:.5f}", int(passes[at]), int(ran[at])]
            rows.append(row)
            self._passed += passes[at]
            self._found += area > 0
        for row, milliseconds in zip(rows, self._times.per_frame([ran[at] for at in kept]), strict=True):
            self._table.write((*row, *(f"{value:.2f}" for value in milliseconds)))

    def _write_overlay(self, picture: np.ndarray, name: str, seconds: float) -> None:
        if self._overlay is not None:
            self._overlay.write(picture, seconds)
            return
        with atomic_path(self._png("overlay", name)) as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")

    def _png(self, kind: str, frame: str) -> Path:
        """Return where a frame's picture is written; without a frame, where those of all frames are."""
        stem = self.folder / f"{self._name}_{kind}"
        if self._is_picture:
            return stem.with_name(f"{stem.name}.png")
        return stem / f"{frame}.png" if frame else stem

    def _open(self, place: int, gated: bool) -> None:
        source = self.clips.opened[place]
        self._name, self._found, self._passed = self.clips.names[place], 0, 0
        self._gated, self._is_picture = gated, not source.is_video and source.path.is_file()
        as_video = source.is_video if self.mask_format is None else self.mask_format == "video"
        if as_video and source.size is None:
            raise _no_video(source.path)
        mask, overlay, table, origin = (
            self.folder / f"{self._name}_{end}" for end in ("mask.mkv", "overlay.mp4", "frames.csv", "seg.json")
        )
        options = (source.size, source.frame_rate, self.overwrite)
        self._mask = self._overlay = None
        with ExitStack() as opened:  # what was opened is closed where the next one cannot be
            if as_video:
                self._mask = MaskVideoWriter(mask, *options)
                opened.callback(self._mask.close)
            if self.overlay and source.size is not None and not self._is_picture:
                self._overlay = OverlayVideoWriter(overlay, *options)
                opened.callback(self._overlay.close)
            self._table = RowWriter(table, (*_COLUMNS, *(_GATE_COLUMNS if gated else ()), *self._times.columns))
            if self.overwrite:
                videos = {writer.path for writer in (self._mask, self._overlay) if writer is not None}
                self._remove_leftovers({table, origin, *videos})
            opened.callback(self._table.close)
            self._writers = opened.pop_all()
        self._source = place

    def _remove_leftovers(self, written: set[Path]) -> None:
        """Remove what an earlier run wrote for this video, but for the files that this one replaces when it closes."""
        for path in self._outputs(self._name):
            try:
                if path.is_file() and path not in written:
                    path.unlink()
                elif path.is_dir() and path.name in (f"{self._name}_mask", f"{self._name}_overlay"):
                    for file in path.glob("*.png"):
                        file.unlink()
                    with suppress(OSError):  # it holds something else
                        path.rmdir()
            except OSError as error:
                problem = f"cannot be removed ({error.strerror or error})"
                raise InputError(path, problem, "pass another --output_dir") from error

    def _close(self, complete: bool = True) -> None:
        if self._source is None:
            return
        place, self._source = self._source, None
        source, path = self.clips.opened[place], self.clips.sources[place]
        self._writers.close()
        files = self._files(path)
        if isinstance(source, StillPictures):
            files = [file for file in files if file not in source.unreadable]
        mask = self._mask.path if self._mask is not None else self._png("mask", "")
        overlay = self._overlay.path if self._overlay is not None else self._png("overlay", "")
        about = {
            "segmentation": mask.name,
            "overlay": overlay.name if self.overlay else None,
            "mask_format": self.mask_format,
            "complete": complete and place not in self.clips.broken,
            "frames": self._table.rows,
        }
        write_json(self.folder / f"{self._name}_seg.json", about | self._provenance(path, files))
        self.written[self._name] = mask
        passed = f", {self._passed} passed the gate" if self._gated else ""
        found = f"something found in {self._found}"
        logger.info("%s: %d frames%s, %s -> %s", self._name, self._table.rows, passed, found, self.folder)

    def _completed(self, engine: Engine) -> None:
        self._close()

    def _interrupted(self, engine: Engine, error: BaseException) -> None:
        try:
            self._close(complete=False)
        except InputError:
            logger.exception("Closing what was written")  # the error on its way says more
        raise error


def _no_video(path: Path) -> InputError:
    return InputError(path, "holds pictures of different sizes, which no video does", "pass --mask_format png")


def _mean_where(values: torch.Tensor, where: torch.Tensor) -> str:
    return f"{float(values[where].mean()):.5f}" if bool(where.any()) else ""

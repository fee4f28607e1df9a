"""What an evaluation of a two-stage pipeline on frames writes."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events

from common.data.atomic import atomic_path, write_csv, write_json, write_text
from common.data.frames import LabelledFrame
from common.data.provenance import provenance
from common.data.video import write_mask_png
from common.errors import InputError
from common.handlers.compared_models import RESULTS, SUMMARY, ComparedModel, compared_models, mask_file
from common.handlers.frame_overlays import FrameOverlay, check_file_id, spread_frames, write_overlays
from common.handlers.frame_pictures import panel_rows, random_frames, save_curves, worst_frames
from common.handlers.frame_summary import FrameSummary
from common.metrics import ClassificationMetric, FrameResults, FrameSegmentationMetric, SegmentationScores
from common.metrics.frame_evaluation import FrameEvaluator
from common.metrics.score_tables import (
    COMPARISON_COLUMNS,
    FRAME_COLUMNS,
    SCORE_COLUMNS,
    comparison_rows,
    frame_rows,
    score_rows,
)
from common.visualize.comparison_panel import save_panel

__all__ = ["FrameReport"]

logger = logging.getLogger(__name__)


class FrameReport:
    """Write scores, curves, panels and the results of each frame; compare with earlier evaluations.

    The evaluations (:data:`common.metrics.EVALUATIONS`) score the two stages of the BESS paper one by one and together:

    - ``frames.npz`` (:meth:`common.metrics.FrameResults.arrays`) and ``frames.csv``, a row for each frame;
    - ``scores.csv``, ``scores.md`` and ``summary.json``: the evaluations' scores with confidence intervals;
    - ``roc.png`` and ``pr.png``; ``panel_random.png`` and ``panel_worst.png`` (the paper's figures 7 and 8);
    - ``masks/ID.png``: the masks of stage 2, the gate left out;
    - ``overlays/ID.jpg``, if they are wanted: a few frames with the outlines of mask and reference;
    - ``comparisons.csv``, where there is something to be compared with.

    Args:
        output_dir: the folder.
        frames: of the data set, by number.
        bundle_root: for the provenance.
        weights: for the provenance; None where they came from no file.
        settings: for the provenance.
        gate_threshold: from which probability on a frame passes the gate.
        threshold: from which probability on a pixel is foreground.
        resample: see :class:`common.metrics.frame_evaluation.FrameEvaluator`.
        samples: see there.
        level: see there.
        seed: of resamples and of the choice of frames that are shown.
        compare_with: output folders of earlier evaluations, on the same frames, of other models; or one of them.
        name: what the model is called in tables and pictures; by default the output folder's name.
        panel_frames: how many frames a panel shows at most; 0 for no panels.
        save_masks: whether to write the masks; panels of later evaluations show them.
        overlays: whether to draw the frames that stand for all by DSC (:func:`.frame_overlays.spread_frames`): of
            stage 2 by itself on the positives and on all frames, and of both stages from end to end; at most 27.
        evaluated: the items that will be evaluated, where they are known beforehand: ``compare_with`` is then checked
            against them at once, and not only after all frames were segmented.

    It takes from the engine's decollated output ``prob``, (1, H, W) probabilities on the frame's own grid, the gate
    left out, ``p_present``, a scalar, and ``label``, (1, H, W); from its batch ``number`` and ``present``.

    Raises:
        InputError: a setting is not valid, a frame's id cannot be a file's name, or a folder of ``compare_with`` holds
            no evaluation or is of other frames.
    """

    def __init__(
        self,
        output_dir: str | Path,
        frames: Sequence[LabelledFrame],
        bundle_root: str | Path,
        weights: str | Path | None,
        settings: Mapping[str, Any] | None = None,
        gate_threshold: float = 0.5,
        threshold: float = 0.5,
        resample: str = "images",
        samples: int = 2000,
        level: float = 0.95,
        seed: int = 0,
        compare_with: str | Path | Sequence[str | Path] = (),
        name: str | None = None,
        panel_frames: int = 6,
        save_masks: bool = True,
        overlays: bool = False,
        evaluated: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        self.folder, self.frames = Path(output_dir).resolve(), frames
        self.bundle_root, self.weights, self.settings = bundle_root, weights, dict(settings or {})
        for which, value in (("gate_threshold", gate_threshold), ("threshold", threshold)):
            if not 0 <= value <= 1:
                raise InputError(f"{which}={value}", "is not a probability", "use one from 0 to 1")
        self.gate_threshold, self.threshold = float(gate_threshold), float(threshold)
        self.evaluator = FrameEvaluator(resample, samples, level, seed)
        if panel_frames < 0:
            raise InputError(f"panel_frames={panel_frames}", "is not a number of frames", "use 0 or more")
        self.name, self.panel_frames, self.save_masks = str(name or self.folder.name), int(panel_frames), save_masks
        self.overlays = overlays
        for frame in frames if save_masks or overlays else ():
            check_file_id(frame.id)
        folders = [compare_with] if isinstance(compare_with, str | Path) else list(compare_with)
        self.compared = compared_models(folders, self.folder, self.name)
        ids = (
            [frame.id for frame in frames]
            if evaluated is None
            else [frames[int(item["number"])].id for item in evaluated]
        )
        for model in self.compared:
            model.check_frames(ids, exactly=evaluated is not None)
        self.presence = ClassificationMetric(threshold=self.gate_threshold)
        self.counts = FrameSegmentationMetric(threshold=self.threshold)
        # Of each frame, by number: size and packed bits of the mask, for panels and overlays.
        self._masks: dict[int, tuple[tuple[int, int], bytes]] = {}

    def attach(self, engine: Engine) -> None:
        """Follow the evaluator."""
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._frames)
        engine.add_event_handler(Events.COMPLETED, self._completed)

    def _started(self, engine: Engine) -> None:
        self.presence.reset()
        self.counts.reset()
        self._masks.clear()

    def _frames(self, engine: Engine) -> None:
        batch: Sequence[Mapping[str, Any]] = engine.state.batch
        outputs: Sequence[Mapping[str, Any]] = engine.state.output
        numbers = [int(item["number"]) for item in batch]
        self.presence(
            [torch.as_tensor(output["p_present"]) for output in outputs],
            [torch.as_tensor(item["present"]) for item in batch],
            frame=numbers,
        )
        self.counts([output["prob"] for output in outputs], [output["label"] for output in outputs], frame=numbers)
        for number, output in zip(numbers, outputs, strict=True):
            mask = np.asarray((output["prob"][0].detach().float() >= self.threshold).cpu())
            if self.panel_frames or self.overlays:
                self._masks[number] = (mask.shape, zlib.compress(np.packbits(mask).tobytes(), 1))
            if self.save_masks:
                write_mask_png(mask_file(self.folder, self.frames[number].id), mask.astype(np.uint8) * 255)

    def _completed(self, engine: Engine) -> None:
        presence, counts, masks = self.presence.collected(), self.counts.collected(), self._masks
        if dist.is_available() and dist.is_initialized():
            # All processes have written their masks by the time that this one has everyone's results.
            parts: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(parts, masks)
            masks = {number: mask for part in parts for number, mask in part.items()}
            if dist.get_rank() > 0:
                return
        of = [self.frames[number] for number in counts.numbers]
        ids, patients = [frame.id for frame in of], [frame.patient or frame.id for frame in of]
        results = FrameResults(ids, patients, presence, counts, self.gate_threshold)
        with atomic_path(self.folder / RESULTS) as temporary:
            np.savez_compressed(temporary, **results.arrays())
        write_csv(self.folder / "frames.csv", frame_rows(results), FRAME_COLUMNS)
        compared, mismatches = [], []
        for model in self.compared:
            try:
                compared.append(model.matched(results))
            except InputError as error:
                mismatches.append(error)
        self._write_scores(results, compared)
        save_curves(self.folder, [(self.name, results), *((model.name, model.results) for model in compared)])
        self._save_panels(results, compared, masks)
        write_overlays(self.folder, self._overlays(results, masks) if self.overlays else ())
        if mismatches:  # only now, so that the evaluation itself is not lost
            raise mismatches[0]

    def _write_scores(self, results: FrameResults, compared: Sequence[ComparedModel]) -> None:
        summary = FrameSummary(self.name, results, self.evaluator, self.threshold, compared)
        write_csv(self.folder / "scores.csv", score_rows(summary.evaluations), SCORE_COLUMNS)
        write_text(self.folder / "scores.md", summary.markdown())
        comparisons = self.folder / "comparisons.csv"
        if compared:
            rows = [row for model, found in summary.comparisons.items() for row in comparison_rows(model, found)]
            write_csv(comparisons, rows, COMPARISON_COLUMNS)
        else:
            comparisons.unlink(missing_ok=True)  # of an earlier run
        source = provenance(self.bundle_root, self.weights, None, self.settings)
        write_json(self.folder / SUMMARY, summary.plain() | {"provenance": source})
        for note in summary.notes:
            logger.warning("%s", note)
        for name, found in summary.evaluations.items():
            score, interval = next(iter(found.scores.items()))
            logger.info(
                "%-20s %s %.3f (%.3f to %.3f) on %d frames, %d positive",
                name, score, interval.value, interval.low, interval.high, found.frames, found.positives,
            )  # fmt: skip
        logger.info("Scores, curves and panels are in %s", self.folder)

    def _save_panels(
        self,
        results: FrameResults,
        compared: Sequence[ComparedModel],
        masks: Mapping[int, tuple[tuple[int, int], bytes]],
    ) -> None:
        chosen = {
            "panel_random.png": (
                "Frames chosen by chance",
                random_frames(results, self.panel_frames, self.evaluator.seed),
            ),
            "panel_worst.png": (f"Lowest end-to-end DSC of {self.name}", worst_frames(results, self.panel_frames)),
        }
        number = dict(zip(results.ids, results.counts.numbers, strict=True))

        def own(frame: str, size: tuple[int, int]) -> np.ndarray:
            return _unpacked(*masks[number[frame]])

        models = [(results, own), *((model.results, model.mask) for model in compared)]
        names = [self.name, *(model.name for model in compared)]
        for file, (title, places) in chosen.items():
            if places:
                save_panel(self.folder / file, names, panel_rows(places, self.frames, models), title)
            else:
                (self.folder / file).unlink(missing_ok=True)

    def _overlays(
        self, results: FrameResults, masks: Mapping[int, tuple[tuple[int, int], bytes]]
    ) -> Iterator[FrameOverlay]:
        ids, positive = results.ids, np.flatnonzero(results.counts.present)
        alone, gated = (
            SegmentationScores(counts).frames["DSC"]
            for counts in (results.counts, results.counts.gated(results.opened()))
        )
        of_positives = [int(positive[at]) for at in spread_frames(alone[positive], [ids[at] for at in positive])]
        for at in dict.fromkeys([*of_positives, *spread_frames(alone, ids), *spread_frames(gated, ids)]):
            number = results.counts.numbers[at]
            frame, mask = self.frames[number], _unpacked(*masks[number])
            words = f"DSC {alone[at]:.2f}"
            if self.gate_threshold > 0:  # else there may be no stage 1
                words = f"p {results.presence.probabilities[at]:.2f} · {words}"
            yield FrameOverlay(frame.id, frame.image, frame.mask, mask, words)


def _unpacked(shape: tuple[int, int], bits: bytes) -> np.ndarray:
    values = np.unpackbits(np.frombuffer(zlib.decompress(bits), np.uint8), count=shape[0] * shape[1])
    return values.reshape(shape)

"""What an evaluation of a classifier of frames writes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events

from common.data.atomic import write_csv, write_json
from common.data.frames import LabelledFrame
from common.data.provenance import provenance
from common.handlers.frame_overlays import FrameOverlay, check_file_id, spread_frames, write_overlays
from common.metrics import Bootstrap, ClassificationMetric, FramePresence

__all__ = ["PresenceReport"]

logger = logging.getLogger(__name__)

FRAMES, SUMMARY = "frames.csv", "summary.json"
_COLUMNS = ("id", "patient", "present", "p_present")


class PresenceReport:
    """Write ``frames.csv`` (a row for each frame) and ``summary.json`` (scores with 95 % intervals over patients).

    The scores are those of :class:`common.metrics.ClassificationScores`. ``overlays/ID.jpg`` are pictures of a few
    frames, if they are wanted.

    Args:
        output_dir: the folder.
        frames: of the data set, by number.
        bundle_root: for the provenance.
        weights: for the provenance; None where they came from no file.
        settings: for the provenance.
        threshold: from which probability on a frame counts as one with the tissue.
        seed: of the resamples.
        overlays: whether to draw the frames that stand for all by how far the probability is from the truth
            (:func:`.frame_overlays.spread_frames`), with what is drawn on them outlined.

    Raises:
        InputError: a frame's id cannot be a file's name.

    It takes from the engine's output ``prob``, (1,) probabilities, and ``label``; from its batch ``number``.
    """

    def __init__(
        self,
        output_dir: str | Path,
        frames: Sequence[LabelledFrame],
        bundle_root: str | Path,
        weights: str | Path | None,
        settings: Mapping[str, Any] | None = None,
        threshold: float = 0.5,
        seed: int = 0,
        overlays: bool = False,
    ) -> None:
        self.folder, self.frames = Path(output_dir).resolve(), frames
        self.bundle_root, self.weights, self.settings = bundle_root, weights, dict(settings or {})
        self.threshold, self.seed = float(threshold), int(seed)
        self.overlays = overlays
        for frame in frames if overlays else ():
            check_file_id(frame.id)
        self.presence = ClassificationMetric(threshold=self.threshold)

    def attach(self, engine: Engine) -> None:
        """Follow the evaluator."""
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._frames)
        engine.add_event_handler(Events.COMPLETED, self._completed)

    def _started(self, engine: Engine) -> None:
        self.presence.reset()

    def _frames(self, engine: Engine) -> None:
        outputs: Sequence[Mapping[str, Any]] = engine.state.output
        self.presence(
            [torch.as_tensor(output["prob"]).reshape(()) for output in outputs],
            [torch.as_tensor(output["label"]).reshape(()) > 0.5 for output in outputs],
            frame=[int(item["number"]) for item in engine.state.batch],
        )

    def _completed(self, engine: Engine) -> None:
        found = self.presence.collected()
        if dist.is_available() and dist.is_initialized() and dist.get_rank() > 0:
            return
        of = [self.frames[number] for number in found.numbers]
        rows = [
            {
                "id": frame.id,
                "patient": frame.patient or frame.id,
                "present": int(present),
                "p_present": f"{probability:.6f}",
            }
            for frame, present, probability in zip(of, found.present, found.probabilities, strict=True)
        ]
        write_csv(self.folder / FRAMES, rows, _COLUMNS)
        scores = found.scores(self.threshold)
        intervals = Bootstrap(len(rows), [row["patient"] for row in rows], seed=self.seed).intervals(scores)
        summary = {
            "frames": len(rows),
            "positives": sum(row["present"] for row in rows),
            "patients": len({row["patient"] for row in rows}),
            "threshold": self.threshold,
            "scores": {
                name: {"value": at.value, "low": at.low, "high": at.high, "undefined_resamples": at.undefined}
                for name, at in intervals.items()
            },
        }
        source = provenance(self.bundle_root, self.weights, None, self.settings)
        write_json(self.folder / SUMMARY, summary | {"provenance": source})
        logger.info(
            "%d frames, %d positive: AUROC %.3f (%.3f to %.3f) -> %s",
            len(rows), summary["positives"], intervals["AUROC"].value, intervals["AUROC"].low, intervals["AUROC"].high,
            self.folder,
        )  # fmt: skip
        write_overlays(self.folder, self._overlays(found) if self.overlays else ())

    def _overlays(self, found: FramePresence) -> Iterator[FrameOverlay]:
        of = [self.frames[number] for number in found.numbers]
        off = np.abs(found.present - found.probabilities)
        for at in spread_frames(-off, [frame.id for frame in of]):
            words = f"p {found.probabilities[at]:.2f} · {'present' if found.present[at] else 'absent'}"
            yield FrameOverlay(of[at].id, of[at].image, of[at].mask, None, words)

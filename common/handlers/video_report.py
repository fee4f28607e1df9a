"""What an evaluation on video writes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events

from common.data.atomic import atomic_path, write_csv, write_json
from common.data.provenance import provenance
from common.data.video import VideoSequence
from common.data.video.layouts import FrameReference
from common.handlers.frame_overlays import FrameOverlay, check_file_id, write_overlays
from common.handlers.video_scores import update_from
from common.metrics import CURVES, SCORES, SequenceCurves, VideoSegmentationMetric, flicker
from common.metrics.video_segmentation import LEVELS

__all__ = ["CURVES_FILE", "VideoReport"]

logger = logging.getLogger(__name__)

CURVES_FILE = "curves.npz"

_COLUMNS = ("sequence", "subject", "frames", "scored_frames", *SCORES, "flicker", "reference_flicker")


class VideoReport:
    """Write ``sequences.csv`` (a row for each sequence), ``curves.npz`` and ``summary.json``.

    The scores are those of :class:`common.metrics.VideoSegmentationMetric`: maxDice, maxIoU, meanSpe, maxSpe, meanSen
    and MAE over 256 thresholds, and MONAI's Dice at 0.5. ``flicker`` is the mean of 1 - IoU of consecutive masks at 0.5
    on the network's grid, ends included; ``reference_flicker`` the same of the drawn masks, which also move. In the
    summary these two are means over the sequences. The set's maxDice is no mean of its sequences': ``curves.npz`` has
    the curves that it is taken of (:meth:`common.metrics.SequenceCurves.arrays`).

    Args:
        output_dir: the folder.
        sequences: of the data set, by number.
        bundle_root: for the provenance.
        weights: for the provenance; None where they came from no file.
        settings: for the provenance.
        drop_ends: leave out each sequence's first and last frame from the scores, as the protocol does.
        overlays: whether to draw of each sequence that is scored the frame with the median Dice at 0.5, with the
            outlines of mask (at 0.5, on the network's grid) and reference: ``overlays/ID.jpg``.

    Raises:
        InputError: a sequence's id cannot be a file's name.

    It takes from the engine what :func:`common.handlers.video_scores.update_from` takes.
    """

    def __init__(
        self,
        output_dir: str | Path,
        sequences: Sequence[VideoSequence],
        bundle_root: str | Path,
        weights: str | Path | None,
        settings: Mapping[str, Any] | None = None,
        drop_ends: bool = True,
        overlays: bool = False,
    ) -> None:
        self.folder, self.sequences = Path(output_dir).resolve(), sequences
        self.bundle_root, self.weights, self.settings = bundle_root, weights, dict(settings or {})
        self.metric, self.overlays = VideoSegmentationMetric(drop_ends=drop_ends), overlays
        for sequence in sequences if overlays else ():
            check_file_id(sequence.id)
        # Packed bits of the masks, predicted and drawn, on the network's grid: by (sequence, frame).
        self._masks: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
        self._grid = (0, 0)

    def attach(self, engine: Engine) -> None:
        """Follow the evaluator."""
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._clips)
        engine.add_event_handler(Events.COMPLETED, self._completed)

    def _started(self, engine: Engine) -> None:
        self.metric.reset()
        self._masks.clear()

    def _clips(self, engine: Engine) -> None:
        update_from(self.metric, engine)
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            probabilities, label = output["prob"], output["label"].float()
            self._grid = tuple(probabilities.shape[-2:])
            drawn = torch.nn.functional.interpolate(label, self._grid, mode="nearest")
            for at, (frame, keep) in enumerate(zip(item["frames"], item["keep"], strict=True)):
                if keep:
                    masks = (probabilities[at] >= 0.5, drawn[at] > 0.5)
                    place = (int(item["sequence_number"]), int(frame))
                    self._masks[place] = tuple(np.packbits(np.asarray(mask.cpu()).ravel()) for mask in masks)

    def _completed(self, engine: Engine) -> None:
        masks = self._masks
        scores, curves, dices = self.metric.scores(), self.metric.curves(), self.metric.frame_dices()
        if dist.is_available() and dist.is_initialized():
            parts: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(parts, masks)
            masks = {place: pair for part in parts for place, pair in part.items()}
            if dist.get_rank() > 0:
                return
        rows = [self._row(number, scores.sequences.get(number), masks) for number in sorted({n for n, _ in masks})]
        write_csv(self.folder / "sequences.csv", [_written(row) for row in rows], _COLUMNS)
        with atomic_path(self.folder / CURVES_FILE) as temporary:
            np.savez_compressed(temporary, **self._curves({number: curves[number] for number in scores.sequences}))
        scored = [row for row in rows if row["scored_frames"]]
        summary = {
            **scores.overall,
            **{name: _mean([row[name] for row in scored]) for name in ("flicker", "reference_flicker")},
            "sequences": len(scored),
            "frames": sum(row["scored_frames"] for row in scored),
            "sequences_too_short": [self.sequences[number].id for number in scores.unscored],
            "by_sequence": {row["sequence"]: {name: row[name] for name in SCORES} for row in scored},
        }
        source = provenance(self.bundle_root, self.weights, None, self.settings)
        write_json(self.folder / "summary.json", summary | {"provenance": source})
        logger.info(
            "%d sequences, %d frames: maxDice %.3f, maxIoU %.3f, MAE %.3f, Dice at 0.5 %.3f, flicker %.3f -> %s",
            summary["sequences"], summary["frames"], *(summary[name] for name in ("maxDice", "maxIoU", "MAE", "Dice")),
            summary["flicker"], self.folder,
        )  # fmt: skip
        scored_dices = {number: dices[number] for number in sorted(scores.sequences)}
        write_overlays(self.folder, self._overlays(scored_dices, masks) if self.overlays else ())

    def _overlays(
        self, dices: Mapping[int, Mapping[int, float]], masks: Mapping[tuple[int, int], tuple[np.ndarray, ...]]
    ) -> Iterator[FrameOverlay]:
        for number, of_sequence in dices.items():
            sequence = self.sequences[number]
            frame = _median_frame(of_sequence)
            mask = np.unpackbits(masks[number, frame][0], count=self._grid[0] * self._grid[1]).reshape(self._grid)
            value = of_sequence[frame]
            dice = f"Dice {value:.2f}" if value == value else "nothing is drawn"
            words = f"frame {_frame_name(sequence.frames[frame])} · {dice}"
            yield FrameOverlay(sequence.id, sequence.frames[frame], sequence.masks[frame], mask, words)

    def _curves(self, curves: Mapping[int, tuple[torch.Tensor, torch.Tensor]]) -> dict[str, np.ndarray]:
        numbers = sorted(curves)
        of = [self.sequences[number] for number in numbers]
        stacked = np.zeros((len(of), len(CURVES), LEVELS)), np.zeros((len(of), 2))
        for at, number in enumerate(numbers):
            for part, values in zip(stacked, curves[number], strict=True):
                part[at] = values.numpy()
        return SequenceCurves([one.id for one in of], [one.subject for one in of], *stacked).arrays()

    def _row(
        self, number: int, scores: Mapping[str, float] | None, masks: Mapping[tuple[int, int], tuple[np.ndarray, ...]]
    ) -> dict[str, Any]:
        frames = sorted(frame for sequence, frame in masks if sequence == number)
        predicted, drawn = (
            torch.from_numpy(np.stack([np.unpackbits(masks[number, frame][which]) for frame in frames]))
            for which in (0, 1)
        )
        return {
            "sequence": self.sequences[number].id,
            "subject": self.sequences[number].subject,
            "frames": len(frames),
            "scored_frames": 0 if scores is None else len(frames) - 2 * self.metric.drop_ends,
            **(dict.fromkeys(SCORES, float("nan")) if scores is None else scores),
            "flicker": flicker(predicted),
            "reference_flicker": flicker(drawn),
        }


def _median_frame(dices: Mapping[int, float]) -> int:
    """Return the frame with the median Dice; the middle one of frames on which nothing is drawn."""
    scored = sorted((dice, frame) for frame, dice in dices.items() if dice == dice)
    frames = [frame for _, frame in scored] or sorted(dices)
    return frames[(len(frames) - 1) // 2]


def _frame_name(reference: FrameReference) -> str:
    return Path(reference).stem if isinstance(reference, str) else str(reference[1])


def _written(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as the table has it: four places, and blank where there is no number."""
    return {
        name: ("" if value != value else f"{value:.4f}") if isinstance(value, float) else value
        for name, value in row.items()
    }


def _mean(values: Sequence[float]) -> float:
    return float(np.nanmean(values)) if any(value == value for value in values) else float("nan")

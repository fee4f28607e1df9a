"""What the two stages said of the frames of a test set, kept so that it can be scored, compared and gated again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from common.errors import InputError
from common.metrics.bootstrap import Statistic
from common.metrics.classification import ClassificationScores, FramePresence
from common.metrics.frame_segmentation import FrameCounts, SegmentationScores

__all__ = ["EVALUATIONS", "FrameResults"]

# Stage 1; what both stages say of presence; stage 2 on the positives, by itself on all frames, and on what stage 1 lets
# pass.
EVALUATIONS = ("classifier", "both_stages", "segmenter_positives", "segmenter_all", "end_to_end")
_ARRAYS = ("ids", "patients", "numbers", "probabilities", "present", "confusion", "histograms")


@dataclass(frozen=True)
class FrameResults:
    """The results of N frames, each stage by itself: the segmenter ran on all of them.

    Args:
        ids: of the frames, (N,).
        patients: whose frames they are, (N,).
        presence: what stage 1 said.
        counts: what stage 2 found, the gate left out.
        gate_threshold: from which probability on a frame passes the gate.

    Raises:
        ValueError: the parts are not of the same frames, or a frame comes twice.
    """

    ids: Sequence[str]
    patients: Sequence[str]
    presence: FramePresence
    counts: FrameCounts
    gate_threshold: float = 0.5

    def __post_init__(self) -> None:
        same = np.array_equal(self.presence.numbers, self.counts.numbers)
        if not same or not len(self.ids) == len(self.patients) == len(self.counts):
            raise ValueError("the results of the stages are not of the same frames")
        if len(set(self.ids)) < len(self.ids):
            raise ValueError("a frame comes twice")

    def __len__(self) -> int:
        return len(self.ids)

    def opened(self, gate_threshold: float | None = None) -> np.ndarray:
        """Return which frames pass the gate, (N,) booleans."""
        presence, threshold = self._in_single_precision(gate_threshold)
        return presence.probabilities >= threshold

    def _in_single_precision(self, given: float | None) -> tuple[FramePresence, float]:
        # As the network compares: a probability that is just the threshold passes in both.
        threshold = np.float32(self.gate_threshold if given is None else given)
        probabilities = self.presence.probabilities.astype(np.float32).astype(np.float64)
        return replace(self.presence, probabilities=probabilities), float(threshold)

    def frames_of(self, evaluation: str) -> np.ndarray:
        """Return which frames an evaluation counts, (N,) booleans."""
        return self.counts.present if evaluation == "segmenter_positives" else np.ones(len(self), bool)

    def statistic(self, evaluation: str, gate_threshold: float | None = None) -> Statistic:
        """Return what gives the scores of an evaluation, of the frames that it counts.

        Args:
            evaluation: one of ``EVALUATIONS``.
            gate_threshold: another one than that of the evaluation.

        Raises:
            ValueError: there is no such evaluation, or it has no frames.
        """
        if evaluation == "classifier":
            presence, threshold = self._in_single_precision(gate_threshold)
            return presence.scores(threshold)
        if evaluation == "both_stages":
            likely = self.presence.probabilities * self.counts.largest_probabilities
            called = self.opened(gate_threshold) & self.counts.marked
            return ClassificationScores(likely, self.presence.present, called=called)
        if evaluation == "segmenter_positives":
            return SegmentationScores(self.counts.only(self.counts.present))
        if evaluation == "segmenter_all":
            return SegmentationScores(self.counts)
        if evaluation == "end_to_end":
            return SegmentationScores(self.counts.gated(self.opened(gate_threshold)))
        raise ValueError(f"evaluation must be one of {', '.join(EVALUATIONS)}, got {evaluation!r}")

    def ordered(self, ids: Sequence[str]) -> FrameResults:
        """Return the same results with their frames in another order.

        Args:
            ids: all of the frames.

        Raises:
            ValueError: these are other frames.
        """
        place = {name: at for at, name in enumerate(self.ids)}
        if len(ids) != len(self) or not place.keys() >= set(ids):
            raise ValueError("these are other frames")
        order = np.array([place[name] for name in ids], dtype=np.int64)
        presence, counts = self.presence, self.counts
        return FrameResults(
            list(ids),
            [self.patients[at] for at in order],
            FramePresence(presence.numbers[order], presence.probabilities[order], presence.present[order]),
            FrameCounts(counts.numbers[order], counts.confusion[order], counts.histograms[order]),
            self.gate_threshold,
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything as arrays by name, for ``numpy.savez_compressed``."""
        return {
            "ids": np.array(self.ids, dtype=np.str_),
            "patients": np.array(self.patients, dtype=np.str_),
            "numbers": self.counts.numbers,
            "probabilities": self.presence.probabilities,
            "present": self.presence.present,
            "confusion": self.counts.confusion,
            "histograms": self.counts.histograms,
            "gate_threshold": np.array(self.gate_threshold),
        }

    @classmethod
    def load(cls, path: str | Path) -> FrameResults:
        """Read what :meth:`arrays` gave.

        Raises:
            InputError: the file is missing, or is none of these.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                part = {name: file[name] for name in (*_ARRAYS, "gate_threshold")}
            count = len(part["ids"])
            shapes = {name: part[name].shape for name in ("numbers", "probabilities", "present", "confusion")}
            if shapes != dict.fromkeys(shapes, (count,)) | {"confusion": (count, 4)}:
                raise ValueError(f"unexpected shapes {shapes}")
            if part["histograms"].ndim != 3 or part["histograms"].shape[:2] != (count, 2):
                raise ValueError(f"unexpected histograms {part['histograms'].shape}")
            return cls(
                [str(name) for name in part["ids"]],
                [str(name) for name in part["patients"]],
                FramePresence(part["numbers"], part["probabilities"], part["present"]),
                FrameCounts(part["numbers"], part["confusion"], part["histograms"]),
                float(part["gate_threshold"]),
            )
        except FileNotFoundError as error:
            raise InputError(path, "does not exist", "pass the output folder of an evaluation") from error
        except Exception as error:  # a damaged archive makes NumPy, zipfile and zlib raise whatever they stumble over
            problem = f"holds no results of an evaluation ({type(error).__name__})"
            raise InputError(path, problem, "pass the output folder of an evaluation") from error

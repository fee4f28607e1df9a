"""The evaluations of a two-stage pipeline, with confidence intervals, and their comparison between two models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.errors import InputError
from common.metrics.bootstrap import Bootstrap, Interval
from common.metrics.classification import CLASSIFICATION_SCORES
from common.metrics.frame_results import EVALUATIONS, FrameResults
from common.metrics.frame_segmentation import SEGMENTATION_SCORES

__all__ = ["EVALUATED_SCORES", "Comparison", "Evaluation", "FrameEvaluator", "undefined_scores"]

_OF_NEGATIVES = ("frame_FPR", "frame_FNR", "negative_pixel_FPR")
# Which scores each evaluation reports, the primary one first.
EVALUATED_SCORES = {
    "classifier": CLASSIFICATION_SCORES,
    "both_stages": CLASSIFICATION_SCORES,
    "segmenter_positives": tuple(name for name in SEGMENTATION_SCORES if name not in _OF_NEGATIVES),
    "segmenter_all": SEGMENTATION_SCORES,
    "end_to_end": SEGMENTATION_SCORES,
}
_RESAMPLE = ("images", "patients")


@dataclass(frozen=True)
class Evaluation:
    """The scores of one evaluation.

    Args:
        frames: how many it counts.
        positives: how many of them hold what is looked for.
        patients: whose they are.
        scores: by name, in the order of ``EVALUATED_SCORES``.
    """

    frames: int
    positives: int
    patients: int
    scores: dict[str, Interval]


@dataclass(frozen=True)
class Comparison:
    """One score of two models on the same frames.

    Args:
        value: of this model.
        other: of the other one.
        p_value: of the paired bootstrap, two-sided.
    """

    value: float
    other: float
    p_value: float

    @property
    def difference(self) -> float:
        """This model's score less the other's."""
        return self.value - self.other


class FrameEvaluator:
    """Scores results of two stages in several ways (``EVALUATIONS``), and compares two models, by the bootstrap.

    Args:
        resample: what is drawn: ``images``, as the BESS paper does, or ``patients`` with all of their images.
        samples: how many resamples.
        level: how much of the distribution the confidence intervals hold.
        seed: of the resamples; both models of a comparison are scored on the same ones.

    Raises:
        InputError: one of these is not valid.
    """

    def __init__(self, resample: str = "images", samples: int = 2000, level: float = 0.95, seed: int = 0) -> None:
        if resample not in _RESAMPLE:
            raise InputError(f"resample={resample}", "is unknown", f"choose {' or '.join(_RESAMPLE)}")
        if samples < 1:
            raise InputError(f"samples={samples}", "is not a number of resamples", "use 1 or more, such as 2000")
        if not 0 < level < 1:
            raise InputError(f"level={level}", "is not the level of an interval", "use one between 0 and 1")
        self.resample, self.samples, self.level, self.seed = resample, int(samples), float(level), int(seed)

    def evaluations(self, results: FrameResults) -> dict[str, Evaluation]:
        """Return the evaluations that have frames, by name."""
        found = {}
        for name in _counted(results):
            intervals = self._bootstrap(results, name).intervals(results.statistic(name), self.level)
            chosen = results.frames_of(name)
            of_stage_one = EVALUATED_SCORES[name] is CLASSIFICATION_SCORES
            present = results.presence.present if of_stage_one else results.counts.present
            found[name] = Evaluation(
                frames=int(chosen.sum()),
                positives=int((present & chosen).sum()),
                patients=len(set(np.array(results.patients)[chosen])),
                scores={score: intervals[score] for score in EVALUATED_SCORES[name]},
            )
        return found

    def comparisons(self, results: FrameResults, other: FrameResults) -> dict[str, dict[str, Comparison]]:
        """Return the differences of two models' scores, by evaluation and score.

        Args:
            results: this model's.
            other: another model's, of the same frames in the same order.

        Raises:
            ValueError: the frames are not the same.
        """
        if list(results.ids) != list(other.ids):
            raise ValueError("the two models' results are not of the same frames in the same order")
        found = {}
        for name in _counted(results):
            both = results.statistic(name), other.statistic(name)
            values, others = (statistic(np.ones((1, results.frames_of(name).sum()))) for statistic in both)
            p_values = self._bootstrap(results, name).p_values(*both)
            found[name] = {
                score: Comparison(float(values[score][0]), float(others[score][0]), p_values[score])
                for score in EVALUATED_SCORES[name]
            }
        return found

    def _bootstrap(self, results: FrameResults, evaluation: str) -> Bootstrap:
        chosen = results.frames_of(evaluation)
        patients = list(np.array(results.patients)[chosen]) if self.resample == "patients" else None
        return Bootstrap(int(chosen.sum()), patients, self.samples, self.seed)


def undefined_scores(evaluations: dict[str, Evaluation]) -> list[str]:
    """Return a line for each evaluation of which something could not be measured, after what the data lack."""
    whole = evaluations["classifier"]
    lines = [f"there are no {what}" for what, count in
             (("positives", whole.positives), ("negatives", whole.frames - whole.positives)) if not count]  # fmt: skip
    for name in EVALUATIONS:
        if name not in evaluations:
            lines.append(f"{name}: not evaluated")
        elif scores := [score for score, found in evaluations[name].scores.items() if np.isnan(found.value)]:
            lines.append(f"{name}: not defined: {', '.join(scores)}")
    return lines


def _counted(results: FrameResults) -> list[str]:
    return [name for name in EVALUATIONS if results.frames_of(name).any()]

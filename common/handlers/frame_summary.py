"""The scores of a two-stage pipeline, and what was agreed on for them, in words and as plain objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.handlers.compared_models import ComparedModel
from common.metrics import FrameResults
from common.metrics.frame_evaluation import FrameEvaluator, undefined_scores
from common.metrics.score_tables import comparison_tables, score_tables

__all__ = ["FrameSummary"]

_CONVENTIONS = {
    "classifier": "stage 1: whether a frame passes the gate",
    "both_stages": "stage 1 lets a frame pass and stage 2 marks something on it; AUROC is of the product of stage 1's "
    "probability and that of the most probable pixel, whatever passes",
    "segmenter_positives": "stage 2 by itself on the frames on which something is drawn",
    "segmenter_all": "stage 2 by itself on all frames",
    "end_to_end": "the mask of stage 2 where stage 1 lets the frame pass, else an empty one",
    "empty": "DSC and IoU are 1 where reference and mask are both empty, 0 where only one of them is",
    "mean": "scores of stage 2 are means over the frames on which they are defined; AUPRC is of all frames' pixels",
    "frame_FPR": "share of the frames without a reference that have any mask",
    "frame_FNR": "share of the frames with a reference that have no mask",
    "negative_pixel_FPR": "mean share of the pixels that are marked in frames without a reference",
    "interval": "percentiles of the bootstrap; resamples on which a score is not defined are left out",
    "p_value": "paired bootstrap, two-sided, not corrected for the number of scores and models",
}


class FrameSummary:
    """Scores of one model, compared with others.

    Args:
        name: of the model.
        results: its results.
        evaluator: what scores them.
        threshold: from which probability on a pixel was foreground.
        compared: other models, their frames in the same order.

    Attributes:
        evaluations: by name.
        comparisons: by the other model's name, then evaluation and score.
        notes: what could not be evaluated, and what is odd in the data; a line each.
    """

    def __init__(
        self,
        name: str,
        results: FrameResults,
        evaluator: FrameEvaluator,
        threshold: float,
        compared: Sequence[ComparedModel] = (),
    ) -> None:
        self.name, self.results, self.evaluator, self.threshold = name, results, evaluator, threshold
        self.compared = compared
        self.evaluations = evaluator.evaluations(results)
        self.comparisons = {model.name: evaluator.comparisons(results, model.results) for model in compared}
        self.notes = self._notes()

    def plain(self) -> dict[str, Any]:
        """Return everything as objects that JSON knows."""
        return {
            "model": self.name,
            "evaluations": {
                name: {
                    "frames": found.frames,
                    "positives": found.positives,
                    "patients": found.patients,
                    "scores": {
                        score: {"value": at.value, "low": at.low, "high": at.high, "undefined_resamples": at.undefined}
                        for score, at in found.scores.items()
                    },
                }
                for name, found in self.evaluations.items()
            },
            "comparisons": {
                model.name: {
                    "folder": str(model.folder),
                    "gate_threshold": model.results.gate_threshold,
                    "evaluations": {
                        name: {
                            score: {
                                "value": at.value, "other": at.other, "difference": at.difference, "p_value": at.p_value
                            }
                            for score, at in scores.items()
                        }
                        for name, scores in self.comparisons[model.name].items()
                    },
                }
                for model in self.compared
            },
            "notes": self.notes,
            "gate_threshold": self.results.gate_threshold,
            "threshold": self.threshold,
            "bootstrap": {name: getattr(self.evaluator, name) for name in ("resample", "samples", "level", "seed")},
            "conventions": _CONVENTIONS,
        }  # fmt: skip

    def markdown(self) -> str:
        """Return everything as Markdown."""
        by, whole = self.evaluator, self.evaluations["classifier"]
        parts = [
            f"# {self.name}",
            f"{whole.frames} frames of {whole.patients} patients, {whole.positives} positive. Frames pass the gate "
            f"from p = {self.results.gate_threshold:g} on, pixels are foreground from {self.threshold:g} on.",
            *(["\n".join(f"- {note}" for note in self.notes)] if self.notes else []),
            f"In brackets the {100 * by.level:g} % confidence interval ({by.samples} resamples of {by.resample}).",
            score_tables(self.evaluations),
        ]
        for model, found in self.comparisons.items():
            parts += [
                f"## Compared with {model}",
                f"What {self.name} has more than {model}, and p of the difference.",
                comparison_tables(found),
            ]
        parts += ["## Conventions", "\n".join(f"- {name}: {meaning}" for name, meaning in _CONVENTIONS.items())]
        return "\n\n".join(parts) + "\n"

    def _notes(self) -> list[str]:
        notes = undefined_scores(self.evaluations)
        odd = int((self.results.presence.present != self.results.counts.present).sum())
        if odd:
            notes.append(f"frames that are stated as positives with nothing drawn on them, or the other way: {odd}")
        if self.evaluator.resample == "patients" and self.evaluations["classifier"].patients == 1:
            notes.append("all frames are of one patient: resampling patients gives no interval")
        return notes

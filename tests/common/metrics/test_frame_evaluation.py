from __future__ import annotations

import math

import numpy as np
import pytest

from common.errors import InputError
from common.metrics import (
    CLASSIFICATION_SCORES,
    EVALUATIONS,
    SEGMENTATION_SCORES,
    Bootstrap,
    FrameCounts,
    FramePresence,
    FrameResults,
)
from common.metrics.frame_evaluation import EVALUATED_SCORES, FrameEvaluator, undefined_scores


def results(seed: int = 0, count: int = 24, positives: int = 15, skill: float = 1.0) -> FrameResults:
    """Frames of 100 pixels, three of each patient; with more skill both stages are better."""
    rng = np.random.default_rng(seed)
    present = np.arange(count) < positives
    probabilities = 1 / (1 + np.exp(-(rng.normal(size=count) + skill * (2 * present - 1))))
    inside = np.where(present, 30, 0)
    tp = rng.binomial(inside, min(0.9, 0.4 + 0.2 * skill))
    fp = rng.binomial(20, 0.1, count)
    confusion = np.stack([tp, fp, 100 - inside - fp, inside - tp], axis=1)
    histograms = np.zeros((count, 2, 512), np.int32)
    histograms[:, 0, 100], histograms[:, 0, 300] = confusion[:, 2], confusion[:, 1]
    histograms[:, 1, 100], histograms[:, 1, 300] = confusion[:, 3], confusion[:, 0]
    numbers = np.arange(count)
    return FrameResults(
        [f"frame {at}" for at in numbers],
        [f"patient {at // 3}" for at in numbers],
        FramePresence(numbers, probabilities, present),
        FrameCounts(numbers, confusion, histograms),
    )


def dice_by_hand(found: FrameResults, evaluation: str, drawn: list[int]) -> float:
    """The mean DSC of the frames that were drawn, as often as they were."""
    values = []
    for at in drawn:
        tp, fp, _, fn = (int(pixels) for pixels in found.counts.confusion[at])
        if evaluation == "end_to_end" and found.presence.probabilities[at] < found.gate_threshold:
            tp, fp, fn = 0, 0, fn + tp
        values.append(2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1.0)
    return sum(values) / len(values)


@pytest.mark.parametrize("resample", ["images", "patients"])
@pytest.mark.parametrize("evaluation", ["segmenter_positives", "segmenter_all", "end_to_end"])
def test_intervals_by_hand(evaluation, resample):
    found = results()
    chosen = list(range(15)) if evaluation == "segmenter_positives" else list(range(24))
    groups = [found.patients[at] for at in chosen] if resample == "patients" else None
    sampled = [
        dice_by_hand(found, evaluation, [at for at, times in zip(chosen, row, strict=True) for _ in range(int(times))])
        for weights in Bootstrap(len(chosen), groups, 60, 5).weights()
        for row in weights
    ]
    interval = FrameEvaluator(resample, 60, 0.8, 5).evaluations(found)[evaluation].scores["DSC"]
    assert interval.value == pytest.approx(dice_by_hand(found, evaluation, chosen))
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(sampled, [0.1, 0.9])))


def test_what_is_reported():
    found = FrameEvaluator(samples=20).evaluations(results())
    assert tuple(found) == EVALUATIONS == tuple(EVALUATED_SCORES)
    assert {name: tuple(one.scores) for name, one in found.items()} == EVALUATED_SCORES
    assert EVALUATED_SCORES["classifier"] == CLASSIFICATION_SCORES and CLASSIFICATION_SCORES[0] == "AUROC"
    assert EVALUATED_SCORES["segmenter_positives"] == SEGMENTATION_SCORES[:9] and SEGMENTATION_SCORES[0] == "DSC"
    assert EVALUATED_SCORES["segmenter_positives"][-1] == "AUPRC"
    assert EVALUATED_SCORES["end_to_end"] == SEGMENTATION_SCORES
    assert [(one.frames, one.positives, one.patients) for one in found.values()] == [
        (24, 15, 8), (24, 15, 8), (15, 15, 5), (24, 15, 8), (24, 15, 8)
    ]  # fmt: skip
    assert undefined_scores(found) == []


def test_stage_1_counts_what_is_stated():
    """A frame may be stated as a positive though nothing is drawn on it."""
    found = results()
    found.presence.present[20] = True
    evaluations = FrameEvaluator(samples=20).evaluations(found)
    assert [one.positives for one in evaluations.values()] == [16, 16, 15, 15, 15]


class TestClasses:
    def test_no_negatives(self):
        found = FrameEvaluator(samples=20).evaluations(results(positives=24))
        assert undefined_scores(found) == [
            "there are no negatives",
            "classifier: not defined: AUROC, specificity, FPR",
            "both_stages: not defined: AUROC, specificity, FPR",
            "segmenter_all: not defined: frame_FPR, negative_pixel_FPR",
            "end_to_end: not defined: frame_FPR, negative_pixel_FPR",
        ]
        assert 0 < found["end_to_end"].scores["DSC"].value < 1

    def test_no_positives(self):
        found = FrameEvaluator(samples=20).evaluations(results(positives=0))
        lines = undefined_scores(found)
        assert lines[0] == "there are no positives" and "segmenter_positives: not evaluated" in lines
        assert "classifier: not defined: AUROC, sensitivity, FNR" in lines
        assert "segmenter_all: not defined: sensitivity, FNR, AUPRC, frame_FNR" in lines
        assert math.isfinite(found["end_to_end"].scores["frame_FPR"].value)


class TestComparisons:
    def test_by_hand(self):
        ours, theirs = results(1), results(2, skill=0.3)
        differences = [
            dice_by_hand(ours, "end_to_end", drawn) - dice_by_hand(theirs, "end_to_end", drawn)
            for weights in Bootstrap(24, None, 80, 3).weights()
            for drawn in ([at for at, times in enumerate(row) for _ in range(int(times))] for row in weights)
        ]
        below, above = (sum(sign * d >= 0 for d in differences) for sign in (-1, 1))
        found = FrameEvaluator(samples=80, seed=3).comparisons(ours, theirs)["end_to_end"]["DSC"]
        assert found.p_value == pytest.approx(min(1, 2 * (min(below, above) + 1) / 81))
        assert found.difference == found.value - found.other
        everything = list(range(24))
        assert (found.value, found.other) == pytest.approx(
            (dice_by_hand(ours, "end_to_end", everything), dice_by_hand(theirs, "end_to_end", everything))
        )

    def test_with_itself(self):
        found = FrameEvaluator(samples=30).comparisons(results(), results())
        assert {name: tuple(scores) for name, scores in found.items()} == EVALUATED_SCORES
        assert all(one.difference == 0 and one.p_value == 1 for scores in found.values() for one in scores.values())

    def test_each_has_its_own_gate(self):
        ours = results()
        theirs = FrameResults(ours.ids, ours.patients, ours.presence, ours.counts, gate_threshold=1.0)
        found = FrameEvaluator(samples=30).comparisons(ours, theirs)
        assert found["segmenter_all"]["DSC"].difference == 0 == found["classifier"]["AUROC"].difference
        assert found["end_to_end"]["DSC"].other == pytest.approx(9 / 24)  # all closed: right on the negatives only
        assert found["classifier"]["sensitivity"].other == 0

    def test_another_order(self):
        with pytest.raises(ValueError, match="not of the same frames in the same order"):
            FrameEvaluator(samples=5).comparisons(results(), results().ordered(results().ids[::-1]))

    def test_same_seed_same_numbers(self):
        one, same, other = (
            FrameEvaluator("patients", 40, seed=seed).evaluations(results())["end_to_end"].scores for seed in (1, 1, 2)
        )
        assert one == same and one["DSC"] != other["DSC"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resample": "frames"}, "resample=frames: is unknown; choose images or patients"),
        ({"samples": 0}, "samples=0: is not a number of resamples"),
        ({"level": 1}, "level=1: is not the level of an interval"),
        ({"level": 0.0}, r"level=0\.0: is not the level"),
    ],
)
def test_settings(settings, message):
    with pytest.raises(InputError, match=message):
        FrameEvaluator(**settings)

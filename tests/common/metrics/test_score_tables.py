from __future__ import annotations

import math

import pytest

from common.metrics.frame_evaluation import EVALUATED_SCORES, FrameEvaluator
from common.metrics.score_tables import (
    COMPARISON_COLUMNS,
    FRAME_COLUMNS,
    SCORE_COLUMNS,
    comparison_rows,
    comparison_tables,
    frame_rows,
    score_rows,
    score_tables,
)
from tests.common.metrics.test_frame_evaluation import dice_by_hand, results

EVALUATOR = FrameEvaluator(samples=40)


def cells(table: str) -> dict[str, list[str]]:
    """The cells of all of a text's tables by their row's name."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in rows}


def test_frames():
    found = results()
    rows = frame_rows(found)
    assert [tuple(row) for row in rows] == [FRAME_COLUMNS] * 24
    for at, row in enumerate(rows):
        tp, fp, _, fn = found.counts.confusion[at]
        assert (row["id"], row["patient"]) == (f"frame {at}", f"patient {at // 3}")
        assert (row["pixels"], row["reference_pixels"], row["mask_pixels"]) == (100, tp + fn, tp + fp)
        assert row["passes_gate"] == (found.presence.probabilities[at] >= 0.5)
        assert row["segmenter_DSC"] == pytest.approx(dice_by_hand(found, "segmenter_all", [at]), abs=1e-6)
        assert row["end_to_end_DSC"] == pytest.approx(dice_by_hand(found, "end_to_end", [at]), abs=1e-6)
        assert row["end_to_end_FPR"] == (row["segmenter_FPR"] if row["passes_gate"] else 0)
        assert math.isnan(row["segmenter_sensitivity"]) == (not row["present"])


def test_scores():
    found = EVALUATOR.evaluations(results())
    rows = score_rows(found)
    assert all(tuple(row) == SCORE_COLUMNS for row in rows)
    assert [(row["evaluation"], row["score"]) for row in rows] == [
        (name, score) for name, scores in EVALUATED_SCORES.items() for score in scores
    ]
    row = rows[-12]
    interval = found["end_to_end"].scores["DSC"]
    assert (row["value"], row["low"], row["high"]) == pytest.approx(
        (interval.value, interval.low, interval.high), abs=1e-6
    )
    assert (row["frames"], row["positives"], row["patients"], row["undefined_resamples"]) == (24, 15, 8, 0)


def test_scores_for_people():
    found = EVALUATOR.evaluations(results())
    table = cells(score_tables(found))
    interval = found["segmenter_all"].scores["DSC"]
    assert table["DSC"][1] == f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"
    assert len(table["AUROC"]) == 2 and len(table["IoU"]) == 3
    assert table["frame_FPR"][0] == "" and table["frame_FPR"][1]
    lacking = cells(score_tables(EVALUATOR.evaluations(results(positives=0))))
    assert lacking["AUROC"] == ["not defined"] * 2 and len(lacking["DSC"]) == 2


def test_comparisons():
    found = EVALUATOR.comparisons(results(1), results(2, skill=0.3))
    rows = comparison_rows("other", found)
    assert all(tuple(row) == COMPARISON_COLUMNS and row["model"] == "other" for row in rows)
    assert len(rows) == sum(map(len, EVALUATED_SCORES.values()))
    for row in rows:
        assert row["difference"] == pytest.approx(row["value"] - row["other"], abs=2e-6)
    one = found["end_to_end"]["DSC"]
    assert cells(comparison_tables(found))["DSC"][2] == f"{one.difference:+.3f} (p = {one.p_value:.3g})"


def test_comparisons_of_what_is_not_defined():
    found = EVALUATOR.comparisons(results(positives=24), results(2, positives=24))
    assert cells(comparison_tables(found))["AUROC"] == ["not defined"] * 2
    assert math.isnan(comparison_rows("other", found)[0]["p_value"])

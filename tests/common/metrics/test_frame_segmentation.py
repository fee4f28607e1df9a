from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.metrics import DiceMetric, MeanIoU, compute_average_precision

from common.metrics.bootstrap import Bootstrap
from common.metrics.frame_segmentation import (
    SEGMENTATION_SCORES,
    FrameCounts,
    FrameSegmentationMetric,
    SegmentationScores,
)

SIZE = (9, 11)


def drawn(seed: int = 0, count: int = 8, empty: tuple[int, ...] = (2, 5)) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities and references (N, 1, H, W) that agree somewhat; some references are empty."""
    rng = np.random.default_rng(seed)
    y = np.zeros((count, 1, *SIZE), np.float32)
    for i in range(count):
        if i not in empty:
            y[i, 0, i % 4 : i % 4 + 4, 2 : 5 + i % 3] = 1
    logits = rng.normal(-1.5, 2, y.shape) + 3 * y
    return torch.sigmoid(torch.tensor(logits)).float(), torch.tensor(y)


def counted(p: torch.Tensor, y: torch.Tensor) -> FrameCounts:
    metric = FrameSegmentationMetric()
    metric(p, y, frame=range(len(p)))
    return metric.collected()


def mask(*rows: str) -> torch.Tensor:
    """A picture (1, H, W) of 0 and 1 from rows of . and #."""
    return torch.tensor([[[float(pixel == "#") for pixel in row] for row in rows]])


def scores_of(prediction: torch.Tensor, reference: torch.Tensor, **settings) -> dict[str, float]:
    return SegmentationScores(counted(prediction[None], reference[None]), **settings).values()


def by_definition(p: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
    """The scores of frames whose references are not empty, pixel after pixel."""
    rows = []
    for one, drawn_one in zip(p, y, strict=True):
        tp = fp = tn = fn = 0
        for probability, inside in zip(one.flatten().tolist(), drawn_one.flatten().tolist(), strict=True):
            tp += probability >= 0.5 and inside == 1
            fp += probability >= 0.5 and inside == 0
            tn += probability < 0.5 and inside == 0
            fn += probability < 0.5 and inside == 1
        rows.append((2 * tp / (2 * tp + fp + fn), tp / (tp + fp + fn), (tp + tn) / (tp + fp + tn + fn), tp / (tp + fn),
                     tn / (tn + fp), tp / (tp + fp) if tp + fp else 0.0, fp / (fp + tn), fn / (fn + tp)))  # fmt: skip
    return dict(zip(SEGMENTATION_SCORES, np.mean(rows, axis=0), strict=False))


class TestPositives:
    @pytest.mark.parametrize("seed", range(3))
    def test_by_definition(self, seed):
        p, y = drawn(seed, empty=())
        p[1] = 0.1  # nothing found in this one
        scores = SegmentationScores(counted(p, y)).values()
        expected = by_definition(p, y)
        assert {name: scores[name] for name in expected} == pytest.approx(expected)
        assert tuple(scores) == SEGMENTATION_SCORES
        assert math.isnan(scores["frame_FPR"]) and scores["frame_FNR"] == 1 / 8

    def test_as_monai_has_them(self):
        p, y = drawn(4)
        counts = counted(p, y)
        positives = SegmentationScores(counts.only(counts.present)).values()
        for metric, name in ((DiceMetric(ignore_empty=True), "DSC"), (MeanIoU(ignore_empty=True), "IoU")):
            metric((p >= 0.5).float(), y)
            assert positives[name] == pytest.approx(metric.aggregate().item())
        everything = SegmentationScores(counts).values()
        metric = DiceMetric(ignore_empty=False)
        metric((p >= 0.5).float(), y)
        assert everything["DSC"] == pytest.approx(metric.aggregate().item())

    @pytest.mark.parametrize("sharpness", [1, 4])
    def test_pixels_pooled_for_auprc(self, sharpness):
        p, y = drawn(1, count=40)
        p = torch.sigmoid(torch.logit(p) * sharpness)  # networks that are trained long press towards 0 and 1
        exact = compute_average_precision(p.flatten(), y.flatten())
        counts = counted(p, y)
        assert SegmentationScores(counts).values()["AUPRC"] == pytest.approx(exact, abs=0.003)
        precision, recall, thresholds = counts.precision_recall()
        assert np.diff(recall, prepend=0) @ precision == pytest.approx(exact, abs=0.003)
        at = int(np.abs(thresholds - 0.5).argmin())
        assert thresholds[at] == 0.5 and recall[at] == pytest.approx(float(((p >= 0.5) * y).sum() / y.sum()))
        assert recall[-1] == 1

    def test_certain_probabilities(self):
        y = mask("##..")
        assert scores_of(y, y)["AUPRC"] == 1
        assert scores_of(1 - y, y)["AUPRC"] == 0.5  # 2 of 4 when all count


class TestEmpty:
    """What is 0/0, frame by frame."""

    @pytest.mark.parametrize(
        ("prediction", "reference", "expected"),
        [
            ("....", "....", {"DSC": 1, "IoU": 1, "accuracy": 1, "specificity": 1, "FPR": 0, "frame_FPR": 0,
                              "negative_pixel_FPR": 0}),
            ("#...", "....", {"DSC": 0, "IoU": 0, "accuracy": 3 / 4, "specificity": 3 / 4, "FPR": 1 / 4, "precision": 0,
                              "frame_FPR": 1, "negative_pixel_FPR": 1 / 4}),
            ("....", "##..", {"DSC": 0, "IoU": 0, "accuracy": 1 / 2, "sensitivity": 0, "specificity": 1, "precision": 0,
                              "FPR": 0, "FNR": 1, "frame_FNR": 1, "AUPRC": 0.5}),
            ("###.", "####", {"DSC": 6 / 7, "IoU": 3 / 4, "accuracy": 3 / 4, "sensitivity": 3 / 4, "precision": 1,
                              "FNR": 1 / 4, "frame_FNR": 0, "AUPRC": 1}),
        ],
    )  # fmt: skip
    def test_one_frame(self, prediction, reference, expected):
        found = scores_of(mask(prediction), mask(reference))
        assert {name: value for name, value in found.items() if not math.isnan(value)} == pytest.approx(expected)

    def test_both_empty_left_out(self):
        p = torch.stack([mask("...."), mask("#..."), mask("##..")])
        y = torch.stack([mask("...."), mask("...."), mask("##..")])
        assert SegmentationScores(counted(p, y)).values()["DSC"] == pytest.approx(2 / 3)
        left = SegmentationScores(counted(p, y), both_empty=math.nan)
        assert left.values()["DSC"] == pytest.approx(1 / 2)
        assert left.frames["DSC"] == pytest.approx([math.nan, 0, 1], nan_ok=True)

    def test_no_frames(self):
        counts = counted(*drawn())
        with pytest.raises(ValueError, match="no frames"):
            SegmentationScores(counts.only(np.zeros(len(counts), bool)))


class TestGate:
    def test_is_an_empty_mask_where_closed(self):
        p, y = drawn(2)
        opened = np.array([True, False, False, True, False, True, True, True])
        gated = counted(p, y).gated(opened)
        expected = counted(p * torch.tensor(opened)[:, None, None, None], y)
        assert (gated.confusion == expected.confusion).all() and (gated.histograms == expected.histograms).all()

    def test_open_and_closed(self):
        counts = counted(*drawn(2))
        opened = counts.gated(np.ones(8, bool))
        assert (opened.confusion == counts.confusion).all() and (opened.histograms == counts.histograms).all()
        closed = SegmentationScores(counts.gated(np.zeros(8, bool))).values()
        assert (closed["frame_FPR"], closed["frame_FNR"], closed["DSC"]) == (0, 1, 2 / 8)

    def test_trades_false_frames_for_lost_ones(self):
        counts = counted(*drawn(3))
        perfect = SegmentationScores(counts.gated(counts.present)).values()
        alone = SegmentationScores(counts).values()
        assert alone["frame_FPR"] > 0 == perfect["frame_FPR"] and alone["frame_FNR"] == perfect["frame_FNR"]
        assert perfect["DSC"] > alone["DSC"]

    def test_wrong_number_of_decisions(self):
        with pytest.raises(ValueError, match="8 frames"):
            counted(*drawn()).gated(np.ones(7, bool))


class TestResamples:
    def test_weights_are_repetitions(self):
        p, y = drawn(5)
        weights = np.random.default_rng(5).integers(0, 3, (5, 8)).astype(float)
        found = SegmentationScores(counted(p, y))(weights)
        for row, counts in enumerate(weights.astype(int)):
            chosen = np.arange(8).repeat(counts)
            repeated = SegmentationScores(counted(p[chosen], y[chosen])).values()
            assert {name: value[row] for name, value in found.items()} == pytest.approx(repeated, nan_ok=True)

    def test_intervals_and_comparison(self):
        p, y = drawn(6, count=30)
        better = torch.sigmoid(torch.logit(p) + 2 * (y - 0.5))
        worse, better = (SegmentationScores(counted(part, y)) for part in (p, better))
        bootstrap = Bootstrap(30, [str(i // 3) for i in range(30)], samples=200)
        intervals = bootstrap.intervals(worse)
        assert set(intervals) == set(SEGMENTATION_SCORES)
        assert all(interval.low <= interval.value <= interval.high for interval in intervals.values())
        assert bootstrap.p_values(worse, better)["DSC"] < 0.05 and bootstrap.p_values(worse, worse)["DSC"] == 1


class TestMetric:
    def test_each_frame_counts_once_in_any_order(self):
        p, y = drawn(7)
        metric = FrameSegmentationMetric()
        for batch in ([6, 0, 3], [1, 2], [7, 5, 4, 6]):
            metric([MetaTensor(p[i]) for i in batch], [MetaTensor(y[i]) for i in batch], frame=batch)
        expected = counted(p, y)
        found = metric.collected()
        for name in ("numbers", "confusion", "histograms"):
            assert (getattr(found, name) == getattr(expected, name)).all()
        positives = SegmentationScores(expected.only(expected.present)).values()
        assert metric.aggregate().item() == pytest.approx(positives["DSC"])
        metric.reset()
        assert metric.collected() is None and math.isnan(metric.aggregate().item())

    def test_is_scored_on_the_references_grid(self):
        p, y = drawn(8)
        large = F.interpolate(p, (27, 33), mode="bilinear", align_corners=False)
        reference = F.interpolate(y, (27, 33))
        assert (counted(p, reference).confusion == counted(large, reference).confusion).all()

    def test_threshold(self):
        metric = FrameSegmentationMetric("FPR", threshold=0.3)
        metric(torch.tensor([[[[0.3, 0.29, 0.9]]]]), torch.tensor([[[[0.0, 0.0, 1.0]]]]), frame=[0])
        assert metric.aggregate().item() == 0.5

    def test_errors(self):
        with pytest.raises(ValueError, match="one of DSC"):
            FrameSegmentationMetric("AUROC")
        with pytest.raises(ValueError, match="expected"):
            FrameSegmentationMetric()(torch.ones(1, 2, 4, 4), torch.ones(1, 1, 4, 4), frame=[0])
        with pytest.raises(ValueError, match="not a number"):
            FrameSegmentationMetric()(torch.full((1, 1, 2, 2), math.nan), torch.ones(1, 1, 2, 2), frame=[0])

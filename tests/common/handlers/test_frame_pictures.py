from __future__ import annotations

import numpy as np
import pytest
import torch

from common.handlers import frame_pictures
from common.handlers.frame_pictures import save_curves
from common.metrics import FrameCounts, FramePresence, FrameResults, FrameSegmentationMetric
from common.visualize.curves import Curve
from tests.common.handlers.frame_runs import PRESENT, reference, stages

NUMBERS = range(len(PRESENT))


def results(model: int, gate_threshold: float = 0.5) -> FrameResults:
    metric = FrameSegmentationMetric()
    said = [stages(model, number) for number in NUMBERS]
    metric(
        torch.tensor(np.stack([probabilities for _, probabilities in said]))[:, None],
        torch.tensor(np.stack([reference(number) for number in NUMBERS]))[:, None].float(),
        frame=NUMBERS,
    )
    counts: FrameCounts = metric.collected()
    presence = FramePresence(counts.numbers, np.array([p for p, _ in said]), np.array(PRESENT) > 0)
    return FrameResults(list(map(str, NUMBERS)), list(map(str, NUMBERS)), presence, counts, gate_threshold)


@pytest.fixture
def drawn(monkeypatch, tmp_path) -> dict[str, tuple[list[Curve], tuple]]:
    """Draw the curves of two models, and record what is drawn."""
    found = {}
    for name in ("roc_figure", "precision_recall_figure"):
        monkeypatch.setattr(frame_pictures, name, lambda curves, *more, name=name: found.update({name: (curves, more)}))
    monkeypatch.setattr(frame_pictures, "save_figure", lambda path, figure: path.write_bytes(b""))
    save_curves(tmp_path, [("one", results(1)), ("two", results(2, gate_threshold=0.4))])
    assert {path.name for path in tmp_path.iterdir()} == {"roc.png", "pr.png"}
    return found


def test_roc(drawn):
    curves, _ = drawn["roc_figure"]
    assert [curve.name for curve in curves] == ["one", "two"]
    for curve, model, threshold in zip(curves, (1, 2), (0.5, 0.4), strict=True):
        assert np.trapezoid(curve.y, curve.x) == pytest.approx(curve.area)
        passes = [stages(model, number)[0] >= threshold for number in NUMBERS]
        rates = [np.mean([passes[n] for n in NUMBERS if PRESENT[n] == present]) for present in (0, 1)]
        assert curve.point == pytest.approx(tuple(rates))
        assert np.isclose([curve.x, curve.y], np.array(curve.point)[:, None]).all(axis=0).any()  # on the curve


def test_precision_recall(drawn):
    curves, (share,) = drawn["precision_recall_figure"]
    positives = [number for number in NUMBERS if PRESENT[number]]
    inside = np.stack([reference(number) for number in positives])
    assert share == pytest.approx(inside.mean())
    for curve, model in zip(curves, (1, 2), strict=True):
        assert np.diff(curve.x, prepend=0) @ curve.y == pytest.approx(curve.area)
        marked = np.stack([stages(model, number)[1] for number in positives]) >= 0.5
        both = (marked & inside).sum()
        assert curve.point == pytest.approx((both / inside.sum(), both / marked.sum()))
        assert np.isclose([curve.x, curve.y], np.array(curve.point)[:, None]).all(axis=0).any()


def test_a_model_that_marks_nothing_has_no_point(monkeypatch, tmp_path):
    found = []
    monkeypatch.setattr(frame_pictures, "precision_recall_figure", lambda curves, share: found.extend(curves))
    monkeypatch.setattr(frame_pictures, "save_figure", lambda path, figure: None)
    save_curves(tmp_path, [("three", results(3))])
    assert found[0].point is None and 0 < found[0].area < 1

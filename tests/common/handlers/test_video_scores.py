from __future__ import annotations

import numpy as np
import pytest
import torch

from common.handlers import VideoScore
from common.metrics import VideoSegmentationMetric
from tests.common.handlers.video_runs import evaluator, labelled_clips, mask_of, probabilities_of, scene

LENGTHS = (7, 5, 2)  # the last one has no frame but its ends
SEQUENCES = [(scene(9)[-length:], [np.roll(mask_of(p), 3, axis=1) for p in scene(9)[-length:]]) for length in LENGTHS]


def at_once(score: str) -> float:
    """The metric on whole sequences."""
    metric = VideoSegmentationMetric(score)
    metric(
        [torch.cat([probabilities_of(picture) for picture in pictures]) for pictures, _ in SEQUENCES],
        [torch.from_numpy(np.stack(masks))[:, None] / 255 for _, masks in SEQUENCES],
        sequence=range(len(SEQUENCES)),
        frames=[torch.arange(length) for length in LENGTHS],
    )
    return float(metric.aggregate())


@pytest.fixture
def scores() -> dict[str, VideoScore]:
    first = VideoScore("Dice")
    return {"dice": first, "max_dice": VideoScore("maxDice", first), "mae": VideoScore("MAE", first)}


@pytest.mark.parametrize("length", [1, 3, 5])
def test_the_key_metric_is_the_metric_on_everything_at_once(scores, length):
    run = evaluator(
        labelled_clips(SEQUENCES, length), key_val_metric={"dice": scores.pop("dice")}, additional_metrics=dict(scores)
    )
    run.run()
    assert run.state.key_metric_name == "dice"
    for name, score in (("dice", "Dice"), ("max_dice", "maxDice"), ("mae", "MAE")):
        assert run.state.metrics[name] == pytest.approx(at_once(score), abs=1e-5)
    assert 0.3 < run.state.metrics["dice"] < 0.99


def test_every_frame_counts_once_in_every_epoch(scores):
    clips, first = labelled_clips(SEQUENCES, 5), scores["dice"]
    run = evaluator(clips, key_val_metric={"dice": first}, additional_metrics={"max_dice": scores["max_dice"]})
    found = []
    for _ in range(2):
        run.run()
        found.append((len(first.metric_fn.get_buffer()[0]), dict(run.state.metrics)))
    assert found[0] == found[1] and found[0][0] == sum(LENGTHS)


def test_another_epoch_forgets_the_one_before(scores):
    run = evaluator(labelled_clips(SEQUENCES, 5), key_val_metric={"dice": scores["dice"]})
    run.run()
    whole = run.state.metrics["dice"]
    other = evaluator(labelled_clips(SEQUENCES[1:], 5), key_val_metric={"dice": scores["dice"]})
    other.run()
    assert other.state.metrics["dice"] != whole
    assert len(scores["dice"].metric_fn.get_buffer()[0]) == sum(LENGTHS[1:])


def test_an_unknown_score():
    with pytest.raises(ValueError, match="score must be one of maxDice"):
        VideoScore("IoU")

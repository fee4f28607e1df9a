from __future__ import annotations

import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.inferers import SimpleInferer
from monai.transforms import AsDiscreted

from common.handlers import StructureDice, VoxelAccuracy

CHANNELS = 4


class Recite(torch.nn.Module):
    """A network whose image is its answer: channel numbers become scores."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.as_tensor(x)[:, 0].long(), CHANNELS).movedim(-1, 1).float()


def case(answer, label, drawn, fold: int = 1) -> dict[str, torch.Tensor]:
    """One case, its voxels in a row; ``fold`` repeats them along the second axis."""

    def volume(channels) -> MetaTensor:
        return MetaTensor(torch.tensor(channels, dtype=torch.float32).reshape(1, -1, 1, 1).repeat(1, 1, fold, 1))

    return {"image": volume(answer), "label": volume(label), "drawn": torch.tensor(drawn, dtype=torch.bool)}


CASES = [
    # everything drawn: 1 has Dice 1, 2 has 2/3, 3 is not there and its false voxel costs nothing
    case([0, 1, 1, 2, 0, 3], [0, 1, 1, 2, 2, 0], [1, 1, 1, 1]),
    # 2 is not drawn: its two voxels on background are right, 1 has Dice 0.5
    case([1, 0, 2, 2, 1, 0], [1, 1, 0, 0, 0, 0], [1, 1, 0, 0], fold=3),
    # nothing that could be scored
    case([0, 0, 3, 0, 0, 0], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1]),
]
DICE = ((1 + 2 / 3) / 2, 0.5)
ACCURACY = (4 / 6, 4 / 6, 5 / 6)


def evaluate(cases, batch_size: int = 1) -> SupervisedEvaluator:
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(Dataset(cases), batch_size=batch_size),
        network=Recite(),
        inferer=SimpleInferer(),
        postprocessing=AsDiscreted("pred", argmax=True, dtype=torch.uint8),
        key_val_metric={"val_mean_dice": StructureDice(CHANNELS)},
        additional_metrics={"val_accuracy": VoxelAccuracy(CHANNELS)},
    )
    evaluator.run()
    return evaluator


def test_cases_of_different_size():
    evaluator = evaluate(CASES)
    assert evaluator.state.key_metric_name == "val_mean_dice"
    assert evaluator.state.metrics["val_mean_dice"] == pytest.approx(sum(DICE) / 2)
    assert evaluator.state.metrics["val_accuracy"] == pytest.approx(sum(ACCURACY) / 3)
    assert evaluator.state.best_metric == pytest.approx(sum(DICE) / 2)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_batches_are_scored_case_by_case(batch_size):
    metrics = evaluate([CASES[0], CASES[2], CASES[0]], batch_size).state.metrics
    assert metrics["val_mean_dice"] == pytest.approx(DICE[0])
    assert metrics["val_accuracy"] == pytest.approx((2 * ACCURACY[0] + ACCURACY[2]) / 3)


def test_what_is_drawn_counts():
    answer, label = [0, 1, 2, 3, 0, 0], [0, 1, 0, 0, 2, 3]
    everything = evaluate([case(answer, label, [1, 1, 1, 1])]).state.metrics
    one = evaluate([case(answer, label, [1, 1, 0, 0])]).state.metrics
    assert everything["val_mean_dice"] == pytest.approx(1 / 3) and one["val_mean_dice"] == pytest.approx(1)
    assert everything["val_accuracy"] == pytest.approx(2 / 6) and one["val_accuracy"] == pytest.approx(4 / 6)


def test_every_run_starts_anew():
    evaluator = evaluate(CASES[:1])
    evaluator.data_loader = DataLoader(Dataset(CASES[1:2]))
    evaluator.run()
    assert evaluator.state.metrics["val_mean_dice"] == pytest.approx(DICE[1])

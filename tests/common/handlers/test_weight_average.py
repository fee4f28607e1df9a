from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from common.handlers import WeightAverage


def trained(momentum: float, steps: int, start: float = 0.0, resumed: bool = False) -> tuple[float, list[float]]:
    """Train a network whose one weight is the number of the step; return its mean and each step's share."""
    network = nn.Linear(1, 1, bias=False)
    average = WeightAverage(network, momentum)
    with torch.no_grad():
        network.weight.fill_(start)  # as a loader of weights does between building and starting
    shares = []

    def step(engine: Engine, batch: int) -> None:
        with torch.no_grad():
            network.weight.fill_(float(batch))

    engine = Engine(step)
    average.attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: shares.append(engine.state.ema_momentum))
    if resumed:
        engine.load_state_dict({"epoch": 1, "max_epochs": 2, "epoch_length": steps})
        engine.run(range(1, steps + 1))
    else:
        engine.run(range(1, steps + 1), max_epochs=1)
    return float(average.ema_model.weight.detach()), shares


def test_the_first_steps_are_a_plain_mean():
    """Start and steps 1 to 4 alike: (10 + 1 + 2 + 3 + 4) / 5."""
    mean, shares = trained(0.01, 4, start=10.0)
    assert mean == pytest.approx(4.0)
    assert shares == pytest.approx([1 / 2, 1 / 3, 1 / 4, 1 / 5])


def test_later_steps_have_the_share_that_is_set():
    mean, shares = trained(0.4, 3)
    assert shares == pytest.approx([0.5, 0.4, 0.4])
    assert mean == pytest.approx(((0.5 * 1) * 0.6 + 0.4 * 2) * 0.6 + 0.4 * 3)


def test_a_resumed_training_keeps_its_own_mean():
    """The mean is what the recorder has put there, here a weight of its own, not the network's 10."""
    torch.manual_seed(0)
    before = float(nn.Linear(1, 1, bias=False).weight.detach())
    torch.manual_seed(0)
    mean, shares = trained(0.01, 1, start=10.0, resumed=True)
    assert shares == pytest.approx([1 / 3])
    assert mean == pytest.approx(before * 2 / 3 + 1 / 3)


def test_batch_statistics_are_averaged_too():
    network = nn.BatchNorm1d(1, momentum=1.0)
    average = WeightAverage(network, 0.4)
    engine = Engine(lambda engine, batch: network(torch.tensor([[0.0], [2.0 * batch]])))
    average.attach(engine)
    engine.run([1, 2], max_epochs=1)
    assert float(average.ema_model.running_mean) == pytest.approx((0.5 * 0 + 0.5 * 1) * 0.6 + 0.4 * 2)
    assert not average.ema_model.training


@pytest.mark.parametrize("momentum", [0, 1, -0.1])
def test_a_share_out_of_range(momentum):
    with pytest.raises(ValueError, match="momentum"):
        WeightAverage(nn.Linear(1, 1), momentum)

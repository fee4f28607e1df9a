from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents

from common.handlers import GradientNorm


@pytest.mark.parametrize(
    ("bound", "wanted"), [(13.0, [3.0, 4.0, 12.0]), (6.5, [1.5, 2.0, 6.0]), (100.0, [3.0, 4.0, 12.0])]
)
def test_the_whole_gradient_is_scaled_down_to_the_bound(bound, wanted):
    network = torch.nn.Linear(3, 1, bias=False)

    def step(engine: Engine, batch: int) -> None:
        (network.weight * torch.tensor([[3.0, 4.0, 12.0]])).sum().backward()
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)

    engine = Engine(step)
    engine.register_events(*IterationEvents)
    GradientNorm(network, bound).attach(engine)
    engine.run([0])
    torch.testing.assert_close(network.weight.grad[0], torch.tensor(wanted), rtol=1e-5, atol=1e-5)


def test_a_bound_is_positive():
    with pytest.raises(ValueError, match="above 0, got 0"):
        GradientNorm(torch.nn.Linear(1, 1), 0)

from __future__ import annotations

import pytest
import torch
from monai.engines import SupervisedTrainer

from common.handlers import GradientClamp

STEEP = torch.tensor([[100.0, 0.1, -100.0]])


def step(value: float | None, scaler: torch.amp.GradScaler | None = None) -> torch.Tensor:
    """How far one step of gradient descent with rate 1 moves three weights whose gradients are ``STEEP``."""
    network = torch.nn.Linear(3, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[{"image": STEEP, "label": torch.zeros(1)}],
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
        loss_function=lambda output, label: output.sum(),
        train_handlers=[GradientClamp(network, value)] if value else [],
        decollate=False,
    )
    if scaler is not None:  # MONAI makes one for CUDA only
        trainer.amp, trainer.scaler = True, scaler
    trainer.run()
    return -network.weight.detach()


def test_each_element_is_clamped():
    assert torch.allclose(step(None), STEEP)
    assert torch.allclose(step(0.5), torch.tensor([[0.5, 0.1, -0.5]]))


def test_scaled_gradients_are_clamped_at_their_own_scale():
    assert torch.allclose(step(0.5, torch.amp.GradScaler("cpu", init_scale=1024.0)), torch.tensor([[0.5, 0.1, -0.5]]))


@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_bound_that_is_none(value):
    with pytest.raises(ValueError, match="must be above 0"):
        GradientClamp(torch.nn.Linear(1, 1), value)

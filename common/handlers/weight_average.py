"""A running mean of a network's weights, which is what is validated and kept."""

from __future__ import annotations

import torch
from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler

__all__ = ["WeightAverage"]


class WeightAverage(EMAHandler):
    """Ignite's exponential moving average, for a bundle's trainer.

    Weights that stand still at the end of a short training on few cases depend on the last cases that it saw; their
    running mean does not. The mean's batch statistics are averaged like its weights. It begins with the weights that
    the training begins with, those of an ``init_checkpoint`` too, so attach it behind what loads them; a training that
    is resumed brings its own.

    Args:
        network: what is trained.
        momentum: share of the newest weights in the mean, in (0, 1); the mean reaches back over about ``1 / momentum``
            steps. Over the first steps the share is larger, as there is less to average: the mean of step n never
            weighs the newest weights with less than ``1 / (n + 1)``.

    Attributes:
        ema_model: the network with the mean weights, for the validation and the recorder.

    Raises:
        ValueError: ``momentum`` is out of range.
    """

    def __init__(self, network: torch.nn.Module, momentum: float = 0.005) -> None:
        super().__init__(network, momentum=float(momentum), handle_buffers="update")

    def attach(self, engine: Engine, name: str = "ema_momentum") -> None:
        """Follow the steps of a trainer.

        Args:
            engine: the trainer.
            name: what the current share is called in its state.
        """
        engine.add_event_handler(Events.STARTED, self._begin)
        # Before ignite's own handler, which reads the share from the engine's state.
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._share, name)
        super().attach(engine, name=name, warn_if_exists=False)

    def _begin(self, engine: Engine) -> None:
        if engine.state.iteration == 0:
            self.ema_model.load_state_dict(self.model.state_dict())

    def _share(self, engine: Engine, name: str) -> None:
        setattr(engine.state, name, max(self.momentum, 1 / (engine.state.iteration + 1)))

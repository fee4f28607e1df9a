"""How long each step of an inference run takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from monai.transforms import LoadImaged

__all__ = ["STEPS", "StepClock"]

STEPS = ("read", "preprocess", "network", "postprocess", "write", "other")


class StepClock:
    """Take the times of an evaluator's steps, without a change to its components.

    ``read`` is ``LoadImaged``, ``preprocess`` the other transforms and the collation, ``network`` the inferer,
    ``postprocess`` the decollation and the transforms, ``write`` the handlers after them (the writer), ``other`` what
    is left, such as the way to the device. A GPU has ended its work before a time is taken.

    One for each process: ``LoadImaged`` is followed in its class, as the evaluator's data set holds it deep within.

    Args:
        device: where the network runs.
        scores: called with the engine after the network, its time is not counted; may replace the prediction.

    Attributes:
        volumes: seconds of each step, ``total`` and ``cpu`` (processor time of all threads) of each volume, in order.
    """

    def __init__(self, device: torch.device, scores: Callable[[Engine], None] | None = None) -> None:
        self.device, self.scores = device, scores
        self.volumes: list[dict[str, float]] = []

    def attach(self, evaluator: Any) -> None:
        """Follow a MONAI evaluator; to be called once its own handlers are attached."""
        load, infer = LoadImaged.__call__, evaluator.inferer

        def timed_load(transform: LoadImaged, *args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            item = load(transform, *args, **kwargs)
            self.reading += time.perf_counter() - begin
            return item

        def timed_inferer(*args: Any, **kwargs: Any) -> torch.Tensor:
            begin = self._now()
            pred = infer(*args, **kwargs)
            self.inferring = self._now() - begin
            return pred

        LoadImaged.__call__ = timed_load
        evaluator.inferer = timed_inferer
        evaluator.add_event_handler(Events.GET_BATCH_STARTED, self._begin)
        evaluator.add_event_handler(Events.GET_BATCH_COMPLETED, self._loaded)
        evaluator.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._inferred)
        evaluator.add_event_handler(IterationEvents.MODEL_COMPLETED, self._processed)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._written)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _begin(self, engine: Engine) -> None:
        self.reading = 0.0
        self.cpu = time.process_time()
        self.begin = self._now()

    def _loaded(self, engine: Engine) -> None:
        self.loaded = self._now()

    def _inferred(self, engine: Engine) -> None:
        self.inferred, cpu = self._now(), time.process_time()
        if self.scores is not None:
            self.scores(engine)
        self.scored = self._now()
        self.cpu += time.process_time() - cpu

    def _processed(self, engine: Engine) -> None:
        self.processed = self._now()

    def _written(self, engine: Engine) -> None:
        end = self._now()
        steps = {
            "read": self.reading,
            "preprocess": self.loaded - self.begin - self.reading,
            "network": self.inferring,
            "postprocess": self.processed - self.scored,
            "write": end - self.processed,
            "other": self.inferred - self.loaded - self.inferring,
        }
        self.volumes.append(steps | {"total": sum(steps.values()), "cpu": time.process_time() - self.cpu})

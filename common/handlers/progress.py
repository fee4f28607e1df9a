"""How far a run is, and how long it will take."""

from __future__ import annotations

import logging
import time

import torch
from ignite.engine import Engine, Events

__all__ = ["Progress", "format_duration"]

logger = logging.getLogger(__name__)


def format_duration(seconds: float) -> str:
    """Write seconds as ``42 s``, ``3 min 20 s`` or ``2 h 05 min``."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


class Progress:
    """Log an estimate after the first step, then a line every few seconds and at the end of each epoch.

    The last line says how long the run took, and what share of that the device had to wait for data: where it is large,
    more ``num_workers`` or a larger ``cache_rate`` help.

    Args:
        what: what the run does, such as ``training``.
        device: where it runs; on a CPU the first line says what that means.
        interval: seconds between lines.
        advice: what to do when a run on a CPU will take longer than ``patience``.
        patience: seconds.
    """

    def __init__(
        self,
        what: str,
        device: str | torch.device = "cpu",
        interval: float = 10.0,
        advice: str = "",
        patience: float = 3600.0,
    ) -> None:
        self.what, self.device, self.interval = what, torch.device(device), interval
        self.advice, self.patience = advice, patience

    def attach(self, engine: Engine) -> None:
        """Follow ``engine``."""
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._wants_data)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._has_data)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)
        engine.add_event_handler(Events.COMPLETED, self._completed)

    def _started(self, engine: Engine) -> None:
        self.begin = self.last = time.monotonic()
        self.first_iteration, self.first_epoch = engine.state.iteration, engine.state.epoch
        self.reported = -1
        self.waited = 0.0
        self.estimated = False
        steps, epochs = engine.state.epoch_length, engine.state.max_epochs
        cpu = self.device.type == "cpu"
        threads = f" with {torch.get_num_threads()} threads" if cpu else ""
        slow = "; at full size a CPU needs hours" if cpu and self.advice else ""
        left = "" if engine.state.epoch == 0 else f", {engine.state.epoch} epochs done"
        length = f"{steps} steps" if epochs == 1 else f"{epochs} epochs of {steps} steps"
        logger.info(
            "%s on %s%s: %s%s%s; the first steps tell how long it will take",
            self.what, self.device, threads, length, left, slow,
        )  # fmt: skip

    def _wants_data(self, engine: Engine) -> None:
        self.asked = time.monotonic()

    def _has_data(self, engine: Engine) -> None:
        self.waited += time.monotonic() - self.asked

    def _completed(self, engine: Engine) -> None:
        done, seconds = engine.state.iteration - self.first_iteration, time.monotonic() - self.begin
        if done > 0 and seconds > 0:
            share = 100 * self.waited / seconds
            logger.info(
                "%s: %d steps in %s, %.1f %% of it waiting for data", self.what, done, format_duration(seconds), share
            )

    def _remaining(self, engine: Engine) -> float:
        done = engine.state.iteration - self.first_iteration
        # An evaluator of a federated training counts epochs like the trainer, but its steps from 0.
        left = (engine.state.max_epochs - self.first_epoch) * engine.state.epoch_length - done
        return (time.monotonic() - self.begin) / max(done, 1) * left

    def _step(self, engine: Engine) -> None:
        now = time.monotonic()
        if not self.estimated:
            # A quick first step is mostly start-up: the second gives a fairer figure. A long one tells enough.
            done = engine.state.iteration - self.first_iteration
            if done < min(2, engine.state.epoch_length) and now - self.begin < self.interval:
                return
            self.estimated = True
            remaining = self._remaining(engine)
            logger.info("%s will take about %s", self.what, format_duration(remaining))
            if remaining > self.patience and self.advice and self.device.type == "cpu":
                logger.info("%s", self.advice)
        elif now - self.last < self.interval:
            return
        self._line(engine)

    def _epoch(self, engine: Engine) -> None:
        if engine.state.max_epochs > 1 and self.reported != engine.state.iteration:
            self._line(engine)

    def _line(self, engine: Engine) -> None:
        self.last, self.reported = time.monotonic(), engine.state.iteration
        length = engine.state.epoch_length
        step = (engine.state.iteration - 1) % length + 1
        output = engine.state.output
        output = output[0] if isinstance(output, list) and output else output
        loss = f" | loss {float(output['loss']):.4f}" if isinstance(output, dict) and "loss" in output else ""
        epoch = f"epoch {engine.state.epoch}/{engine.state.max_epochs} " if engine.state.max_epochs > 1 else ""
        logger.info(
            "%s: %sstep %d/%d%s | elapsed %s | remaining about %s",
            self.what, epoch, step, length, loss,
            format_duration(self.last - self.begin), format_duration(self._remaining(engine)),
        )  # fmt: skip

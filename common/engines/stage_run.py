"""A training of several stages, one after the other."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch.distributed as dist
from monai.bundle import ConfigParser
from monai.handlers import MLFlowHandler

__all__ = ["StageRun"]


class StageRun:
    """Another training of the same bundle that goes before this one's, in this process and with its log.

    Args:
        config_files: train.json and what makes it the other stage's, laid over it.
        ids: what they are to have in the place of their own.
        active: whether there is anything to do: a host application that trains with data of its own trains the last
            stage only.
    """

    def __init__(self, config_files: Sequence[str], ids: Mapping[str, Any], active: bool = True) -> None:
        self.config_files, self.ids, self.active = list(config_files), dict(ids), bool(active)
        self._parser: ConfigParser | None = None
        self._trainer: Any = None

    def prepare(self) -> None:
        """Build the trainer, so that what is wrong with it ends the run before any training.

        Raises:
            InputError: see the parts of the configuration.
        """
        if self.active and self._trainer is None:
            parser = ConfigParser()
            parser.read_config(self.config_files)
            parser.update(self.ids)
            parser.parse(reset=True)
            self._parser, self._trainer = parser, parser.get_parsed_content("train#trainer")

    def run(self, handlers: Sequence[Any] = (), validation_handlers: Sequence[Any] = ()) -> None:
        """Train.

        MONAI's experiment tracking (``--tracking``) adds a handler to the trainer that it knows of, and one to its
        validator. This stage is tracked with copies of them, as a run of its own.

        Args:
            handlers: of the following stage's trainer, which has not run yet.
            validation_handlers: of its validator.
        """
        self.prepare()
        if self._trainer is not None:
            self._track(handlers, "train#trainer")
            self._track(validation_handlers, "validate#evaluator")
            self._trainer.run()
            if dist.is_available() and dist.is_initialized():
                dist.barrier()  # the next stage reads what the first process wrote

    def _track(self, handlers: Sequence[Any], engine: str) -> None:
        trackers = [handler for handler in handlers if isinstance(handler, MLFlowHandler)]
        if not trackers or self._trainer.state.epoch >= self._trainer.state.max_epochs:
            return  # a finished training that is resumed would leave an empty run
        for tracker in trackers:
            copy.copy(tracker).attach(self._parser.get_parsed_content(engine))

"""A pipeline of stages that are trained one after the other, each from what is there of the others."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events

from common.data.atomic import atomic_path
from common.data.plan import check_plan
from common.handlers.checkpoint_loader import load_weights
from common.networks import TwoStage
from common.networks.two_stage import STAGES

__all__ = ["EarlierStage", "LaterStage"]

logger = logging.getLogger(__name__)

_WEIGHTS = "model.pt"


class EarlierStage:
    """Begin a stage's training with the earlier stage's best weights in the pipeline.

    Attach it behind what loads other weights, and behind the recorder: what a training of the earlier stage left in the
    output folder goes before.

    Args:
        network: the pipeline.
        earlier: the stage that was trained before: ``classifier``.
        trained: the stage that is trained now: ``segmenter``.
        folder: where the earlier stage's training left its ``model.pt``; there may be none.
        plan: the run's settings, compared with those that the weights were trained with (:mod:`common.data.plan`).
        device: where the tensors are read to.

    Raises:
        InputError: the earlier stage was trained with other settings, for other inputs say.
    """

    def __init__(
        self,
        network: TwoStage,
        earlier: str,
        trained: str,
        folder: str | Path,
        plan: Mapping[str, Any] | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.network, self.earlier, self.trained, self.device = network, earlier, trained, device
        self.path, self.plan = Path(folder) / _WEIGHTS, dict(plan or {})
        if self.path.is_file():
            check_plan(self.path, self.plan)

    def attach(self, engine: Engine) -> None:
        """Load at the start of ``engine``'s run."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        if self.path.is_file():
            load_weights(getattr(self.network, self.earlier), self.path, self.device)
            self.network.mark_trained(self.earlier)
        elif self.earlier in self.network.untrained():
            logger.warning("There is no trained %s: train it later into the same --output_dir", self.earlier)
        self.network.mark_trained(self.trained)


class LaterStage:
    """After a stage's training, put its best weights into the pipelines that a later stage's training left.

    Args:
        folder: the pipeline's folder, with ``model.pt`` and ``model_last.pt`` where the later stage was trained.
        stage: which stage was trained: ``classifier``.
        weights: the folder of its ``model.pt``.
        network: the pipeline that the trained stage belongs to, which is to know of it.
    """

    def __init__(self, folder: str | Path, stage: str, weights: str | Path, network: TwoStage | None = None) -> None:
        self.folder, self.stage, self.weights = Path(folder), stage, Path(weights) / _WEIGHTS
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Act when ``engine`` has trained."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if not self.weights.is_file():
            return
        if self.network is not None:
            self.network.mark_trained(self.stage)
        if dist.is_available() and dist.is_initialized() and dist.get_rank() > 0:
            return
        own = torch.load(self.weights, map_location="cpu", weights_only=True)
        new = {f"{self.stage}.{name}": tensor for name, tensor in own.items()}
        for path in (self.folder / _WEIGHTS, self.folder / "model_last.pt"):
            if not path.is_file():
                continue
            state = torch.load(path, map_location="cpu", weights_only=True)
            if all(torch.equal(state[name], tensor) for name, tensor in new.items()):
                continue
            state["stages_trained"][STAGES.index(self.stage)] = 1
            with atomic_path(path) as temporary, open(temporary, "wb") as file:
                torch.save(state | new, file)
            logger.info("%s has the new %s", path, self.stage)

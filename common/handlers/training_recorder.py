"""What a training leaves behind: weights, a state to go on from, its history and its data."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events

from common.data.atomic import TEMPORARY, atomic_path, write_csv, write_json
from common.data.plan import check_plan, plan_file
from common.data.provenance import provenance
from common.errors import InputError

__all__ = ["TrainingRecorder"]

logger = logging.getLogger(__name__)

BEST, LAST, STATE, HISTORY, SPLIT = "model.pt", "model_last.pt", "training_state.pt", "history.csv", "split.json"
PROVENANCE = "provenance.json"


class TrainingRecorder:
    """Keep a training's results in its output folder, and go on from them.

    After every epoch it writes ``history.csv`` (loss and its parts, learning rate, validation metrics), ``model.pt``
    (the best weights by the key metric, a state dict; none where no epoch was validated), ``model_last.pt`` and, last
    of all, ``training_state.pt``, from which ``resume`` goes on. Each file is written whole or not at all. Attach it
    after the validation and the schedule.

    Args:
        output_dir: the run's folder.
        network: what is trained.
        state: further objects with ``state_dict`` that a resumed training needs: optimiser, schedule.
        validator: the evaluator whose key metric chooses the best weights; None, or one without cases, makes the
            newest the best.
        resume: go on from ``training_state.pt`` in the folder.
        data: the items of each part, ``{"train": [...], "validation": [...]}``, for ``split.json``.
        plan: the settings that the weights depend on, written beside them (:mod:`common.data.plan`).
        bundle_root: the bundle's folder, for ``provenance.json`` at the end of the training; None writes none.
        publish_to: a second place for the best weights. Runs leave a bundle's ``models/`` alone; only a host
            application that trains the bundle (MONAI Label) expects them there.
        device: where the state is read to.
        parts: further entries of the trainer's output, scalars, whose means over each epoch stand behind the loss's.
        patience: end the training when the key metric has not risen for so many epochs; 0: never.

    Raises:
        InputError: the folder holds a training and ``resume`` is off; it holds none and ``resume`` is on; or its state
            does not fit.
    """

    def __init__(
        self,
        output_dir: str | Path,
        network: torch.nn.Module,
        state: Mapping[str, Any],
        validator: Engine | None = None,
        resume: bool = False,
        data: Mapping[str, Sequence[Any]] | None = None,
        plan: Mapping[str, Any] | None = None,
        bundle_root: str | Path | None = None,
        publish_to: str | Path | None = None,
        device: str | torch.device = "cpu",
        parts: Sequence[str] = (),
        patience: int = 0,
    ) -> None:
        self.patience = int(patience)
        self.folder, self.network, self.objects = Path(output_dir), network, dict(state)
        self.validator, self.resume, self.data = validator, resume, data
        self.plan, self.publish_to, self.device = dict(plan or {}), publish_to, device
        self.bundle_root = bundle_root
        self.history: list[dict[str, float]] = []
        self.best = -math.inf
        self.best_epoch = 0
        self.parts = ("loss", *parts)
        self._losses: list[torch.Tensor] = []  # of each step, a number for each part
        self._scaler: Mapping[str, Any] = {}
        self._resumed_epoch = 0
        self._done = False
        exists = (self.folder / STATE).is_file()
        if exists and not resume and publish_to is None:
            raise InputError(
                self.folder, "holds a training already", "pass --resume true to go on with it, or another --output_dir"
            )
        if resume and not exists:
            raise InputError(self.folder, f"holds no {STATE} to go on from", "leave --resume out, or mend --output_dir")

    def attach(self, engine: Engine) -> None:
        """Follow the trainer; a resumed one starts behind its last finished epoch."""
        if self.resume:
            self._load(engine)
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)
        engine.add_event_handler(Events.COMPLETED, self._completed)

    def _load(self, engine: Engine) -> None:
        path = self.folder / STATE
        check_plan(self.folder / BEST, self.plan)
        try:
            saved = torch.load(path, map_location=self.device, weights_only=True)
            self._plain_network().load_state_dict(saved["network"])
            for name, thing in self.objects.items():
                thing.load_state_dict(saved["objects"][name])
            self.history, self.best, self.best_epoch = saved["history"], saved["best"], saved["best_epoch"]
            epoch, iteration, self._scaler = saved["epoch"], saved["iteration"], saved["scaler"]
        except Exception as error:
            problem = f"does not fit this training ({type(error).__name__})"
            raise InputError(path, problem, "resume with the settings it began with") from error
        logger.info("Resuming behind epoch %d of %d (%s)", epoch, engine.state.max_epochs, path)
        self._resumed_epoch = epoch
        engine.state.epoch, engine.state.iteration = epoch, iteration
        # Ignite refuses fewer epochs than there were. Whether all are done is asked when the engine starts: federated
        # learning says only then how many more there are to be.
        engine.state.max_epochs = max(engine.state.max_epochs, epoch)

    def _started(self, engine: Engine) -> None:
        if self.resume:
            done, self._resumed_epoch = self._resumed_epoch, 0  # once: a federated training starts again and again
            self._done = done >= engine.state.max_epochs or self._patience_is_over(done)
        if self._done:
            logger.info("The training in %s is finished; raise --max_epochs to go on", self.folder)
            engine.terminate()
            return
        if self._scaler and getattr(engine, "scaler", None) is not None:
            engine.scaler.load_state_dict(self._scaler)
        if dist.is_available() and dist.is_initialized() and dist.get_rank() > 0:
            return
        for leftover in self.folder.glob(TEMPORARY):  # of a run that was killed while it wrote
            leftover.unlink(missing_ok=True)
        if self.data is not None:
            split: dict[str, Any] = {}
            for name, items in self.data.items():
                # a data set that knows its parts says so itself; any other's items are listed
                split |= getattr(items, "split", None) or {}
                split.setdefault(name, [str(item.get("id", item["image"])) for item in items])
            write_json(self.folder / SPLIT, split)

    def _step(self, engine: Engine) -> None:
        output = engine.state.output
        output = output[0] if isinstance(output, list) else output
        loss = torch.as_tensor(output["loss"])
        if not torch.isfinite(loss.detach()).all():
            raise InputError(
                "loss", f"became {float(loss)} in epoch {engine.state.epoch}", "pass a lower --lr or --precision fp32"
            )
        self._losses.append(torch.stack([torch.as_tensor(output[part]).detach().float().cpu() for part in self.parts]))

    def _epoch(self, engine: Engine) -> None:
        row: dict[str, float] = {"epoch": engine.state.epoch}
        row |= self._mean_losses()
        self._losses.clear()
        optimizer = self.objects.get("optimizer")
        if optimizer is not None:
            row["lr"] = optimizer.param_groups[0]["lr"]
        score: float | None = float(engine.state.epoch)
        if self.validator is not None and len(self.validator.data_loader) > 0:
            score = None
            if self.validator.state.epoch == engine.state.epoch:
                row |= {name: float(value) for name, value in self.validator.state.metrics.items()}
                score = row[self.validator.state.key_metric_name]
        self.history.append(row)
        improved = score is not None and score > self.best
        if improved:
            self.best, self.best_epoch = score, engine.state.epoch
        if self._patience_is_over(engine.state.epoch):
            logger.info("No better epoch since epoch %d: the training ends early", self.best_epoch)
            engine.terminate()
        if dist.is_available() and dist.is_initialized() and dist.get_rank() > 0:
            return  # all processes know the same; the first one writes
        weights = {name: tensor.detach().cpu() for name, tensor in self._plain_network().state_dict().items()}
        if improved:
            for path in [self.folder / BEST] + ([Path(self.publish_to)] if self.publish_to else []):
                self._save_weights(weights, path)
        columns = list(dict.fromkeys(name for entry in self.history for name in entry))
        write_csv(self.folder / HISTORY, self.history, columns)
        self._save_weights(weights, self.folder / LAST)
        state = {
            "network": weights,
            "objects": {name: thing.state_dict() for name, thing in self.objects.items()},
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "history": self.history,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "scaler": engine.scaler.state_dict() if getattr(engine, "scaler", None) is not None else {},
        }
        self._save(state, self.folder / STATE)

    def _patience_is_over(self, epoch: int) -> bool:
        return bool(self.patience and self.best_epoch and epoch - self.best_epoch >= self.patience)

    def _mean_losses(self) -> dict[str, float]:
        if self._losses:
            means = torch.stack(self._losses).mean(dim=0)
        else:
            means = torch.full((len(self.parts),), math.nan)
        if dist.is_available() and dist.is_initialized():
            means = means.to(self.device)
            dist.all_reduce(means)
            means = means / dist.get_world_size()
        return dict(zip(self.parts, means.tolist(), strict=True))

    def _plain_network(self) -> torch.nn.Module:
        return getattr(self.network, "module", self.network)

    def _save_weights(self, weights: Mapping[str, torch.Tensor], path: Path) -> None:
        if self.plan:
            write_json(plan_file(path), self.plan)
        self._save(weights, path)

    @staticmethod
    def _save(content: Any, path: Path) -> None:
        # Through a file object: given a path, torch stores the (temporary) name too, and equal weights would differ.
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            torch.save(content, file)

    def _completed(self, engine: Engine) -> None:
        if not self.history or self._done:
            return
        weights = (self.folder / (BEST if self.best_epoch else LAST)).resolve()
        if self.best_epoch:
            logger.info("Best weights: epoch %d (%.4f), in %s", self.best_epoch, self.best, weights)
        else:
            logger.info("No epoch has a score, so none is the best; the last epoch's weights are in %s", weights)
        if dist.is_available() and dist.is_initialized() and dist.get_rank() > 0:
            return
        if not self.best_epoch and self.publish_to:
            last = {name: tensor.detach().cpu() for name, tensor in self._plain_network().state_dict().items()}
            self._save_weights(last, Path(self.publish_to))
        if self.bundle_root is not None:
            settings = self.plan | {"max_epochs": engine.state.max_epochs, "best_epoch": self.best_epoch}
            write_json(self.folder / PROVENANCE, provenance(self.bundle_root, weights, None, settings))

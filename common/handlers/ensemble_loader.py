"""Weights of several networks of one kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from common.errors import InputError
from common.handlers.checkpoint_loader import StrictCheckpointLoader, load_weights

__all__ = ["EnsembleCheckpointLoader"]


class EnsembleCheckpointLoader:
    """Give networks with one file of weights after another, as :class:`common.inferers.EnsembleInferer` takes them.

    Args:
        paths: the files of weights, at least one, each only once.
        network: the network that all of them are for. The members are this network with other weights each, or copies.
        device: where the tensors are read to.
        plan: see :class:`common.handlers.StrictCheckpointLoader`; all weights have to agree with it.
        complete: see :func:`common.handlers.load_weights`.
        keep: hold a copy of the network for each file on its device. Otherwise there is one network, and each file is
            read anew for every input: a few seconds each, for the memory of a single network.

    Attributes:
        learned: label values that all weights were taught, ascending; None where no plan lies beside any of them.

    Raises:
        InputError: ``paths`` is no list of files, or see :func:`common.handlers.load_weights`; a missing file, or a
            plan that differs, is refused here already, before any data is read.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        network: torch.nn.Module,
        device: str | torch.device = "cpu",
        plan: Mapping[str, Any] | None = None,
        complete: bool = False,
        keep: bool = False,
    ) -> None:
        if isinstance(paths, str) or not isinstance(paths, Sequence) or not paths:
            raise InputError(f"--checkpoints {paths}", "is not a list of files", "pass \"['fold0.pt','fold1.pt']\"")
        self.paths = [Path(path) for path in paths]
        if len({path.resolve() for path in self.paths}) < len(self.paths):
            names = ", ".join(map(str, self.paths))
            raise InputError(f"--checkpoints {names}", "names a file twice", "pass each file once")
        self.network, self.device, self.complete, self.keep = network, device, complete, keep
        taught = [StrictCheckpointLoader(path, network, device, plan).learned for path in self.paths]
        known = [set(values) for values in taught if values is not None]
        self.learned: list[int] | None = sorted(set.intersection(*known)) if known else None
        self._members: list[torch.nn.Module] = []

    def attach(self, engine: Engine) -> None:
        """Read all files at the start of ``engine``'s run, so that a bad one is known before the first input."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        self._members = []
        for path in self.paths:
            load_weights(self._own, path, self.device, self.complete)
            if self.keep:
                self._members.append(deepcopy(self._own).eval())

    def __iter__(self) -> Iterator[torch.nn.Module]:
        """Give the members in turn; without ``keep`` all of them are one object, whose weights change."""
        if self._members:
            yield from self._members
            return
        for path in self.paths:
            load_weights(self._own, path, self.device, self.complete)
            yield self._own.eval()

    @property
    def _own(self) -> torch.nn.Module:
        return getattr(self.network, "module", self.network)

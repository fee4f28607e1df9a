"""Weights into a network, or one clear line."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine

from common.data.plan import LEARNED, check_plan, read_plan
from common.data.weight_parts import join_parts
from common.errors import InputError

__all__ = ["StrictCheckpointLoader", "load_weights"]

logger = logging.getLogger(__name__)


def load_weights(
    network: torch.nn.Module, path: str | Path, device: str | torch.device = "cpu", complete: bool = False
) -> None:
    """Load a state dict of tensors; every name and shape must fit.

    Args:
        network: what the weights are for.
        path: a state dict, or one below the key ``model`` (what MONAI Label and MONAI's checkpoints hold).
        device: where the tensors are read to.
        complete: refuse weights of which a part was never trained, as ``network.untrained()`` says where there is such
            a method (:class:`common.networks.TwoStage`).

    Raises:
        InputError: the file is missing, is not a state dict of tensors, is another network's, or is not complete.
    """
    path = Path(path)
    join_parts(path)
    if not path.is_file():
        raise InputError(path, "there are no weights", "train first, or pass --checkpoint with trained weights")
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # the unpickler trips over other files in many ways, IndexError and KeyError among them
        raise InputError(path, f"is not a file of weights ({type(error).__name__})", "pass a state dict") from error
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = state["model"]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(path, "holds something else than tensors by name", "pass a state dict")
    own = network.state_dict()
    wrong = [name for name in own if name not in state or state[name].shape != own[name].shape]
    strange = [name for name in state if name not in own]
    if wrong or strange:
        raise InputError(
            path,
            f"does not fit this network ({len(wrong)} of {len(own)} tensors are missing or of another shape, "
            f"{len(strange)} are unknown; first: {(wrong + strange)[0]})",
            "pass weights that were trained with the same settings",
        )
    network.load_state_dict(state)
    if complete and (untrained := getattr(network, "untrained", list)()):
        remedy = "train it into the same --output_dir"
        if "classifier" in untrained:
            remedy += ", or pass --gate_threshold 0 to segment every frame"
        raise InputError(path, f"its {untrained[0]} was never trained", remedy)
    logger.info("Weights from %s", path)


class StrictCheckpointLoader:
    """Load weights before an engine runs.

    MONAI's ``CheckpointLoader`` shows a traceback for each way in which a file can be wrong; this one line. And that
    one loads at each start of the engine. Here an application may put other weights into the network once the engine is
    built, as federated learning does before each of its rounds, and they stay there.

    Args:
        path: the weights; None: there are none to load. Where they are kept in parts (:mod:`common.data.weight_parts`),
            these are joined first.
        network: what they are for.
        device: where the tensors are read to.
        plan: the run's settings, compared with those that the weights were trained with (:mod:`common.data.plan`).
        complete: see :func:`load_weights`.

    Attributes:
        learned: label values that the weights were taught; None where no plan lies beside them.

    Raises:
        InputError: see :func:`load_weights`; a missing file, or a plan that differs, is refused here already, before
            any data is read.
    """

    def __init__(
        self,
        path: str | Path | None,
        network: torch.nn.Module,
        device: str | torch.device = "cpu",
        plan: Mapping[str, Any] | None = None,
        complete: bool = False,
    ) -> None:
        self.path, self.network, self.device, self.complete = path, network, device, complete
        self.learned: list[int] | None = None
        if path is None:
            return
        join_parts(path)
        if not Path(path).is_file():
            raise InputError(path, "there are no weights", "train first, or pass --checkpoint with trained weights")
        check_plan(path, plan or {})
        self.learned = read_plan(path).get(LEARNED)

    def attach(self, engine: Engine) -> None:
        """Load.

        Raises:
            InputError: see :func:`load_weights`.
        """
        if self.path is not None:
            load_weights(getattr(self.network, "module", self.network), self.path, self.device, self.complete)

"""A bundle's network, with its weights and the settings that belong to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import nn

from common.data.plan import read_plan
from common.engines.launch import refusals
from common.errors import InputError
from common.handlers import load_weights
from common.networks import PerFrame, SAFNet, SSHSNet, TwoStage
from common.networks.clip_network import ClipNetwork
from tools.export.frame_parts import clip_plan, frame_plan, two_stage_plan
from tools.export.part import ExportPlan
from tools.export.spine_parts import hybrid_plan, volume_plan
from tools.stream.bundle import read_bundle

__all__ = ["BundleNetwork"]

_NEEDED = ("checked", "checkpoint", "device", "network_def", "weights", "plan")
# Which function divides which networks; the first that fits.
_PLANS = (
    (TwoStage, two_stage_plan), (SSHSNet, hybrid_plan), (SAFNet, volume_plan), (ClipNetwork, clip_plan),
    (PerFrame, frame_plan),
)  # fmt: skip


@dataclass(frozen=True)
class BundleNetwork:
    """A network as its bundle's inference makes it.

    Args:
        root: the bundle's folder.
        network: in evaluation mode, with weights.
        settings: that belong to the weights, and what else decides about the input.
        checkpoint: the file of weights; None for random ones.
        channels: what the metadata says of the output's channels.
    """

    root: Path
    network: nn.Module
    settings: Mapping[str, Any]
    checkpoint: Path | None
    channels: Mapping[str, str]

    @classmethod
    def load(
        cls,
        root: Path,
        checkpoint: Path | None,
        ids: Mapping[str, Any],
        files: Sequence[str] = (),
        device: str = "cpu",
        random_weights: bool = False,
    ) -> BundleNetwork:
        """Make the network of a bundle's inference.json.

        Settings that belong to the weights come from ``model.json`` beside them, as does the network's configuration
        where the bundle has several (``model``).

        Args:
            root: the bundle's folder.
            checkpoint: the weights; None for those in the bundle.
            ids: what inference.json's ids are set to.
            files: further configuration files, laid over inference.json.
            device: where the network is to be.
            random_weights: no weights, but random numbers of which all count.

        Raises:
            InputError: there are no weights or they do not fit, or a file or an id is not as it should be.
        """
        path = None if random_weights else checkpoint or root / "models" / "model.pt"
        if path is not None and not path.is_file():
            remedy = "train first, pass --checkpoint with trained weights, or --random_weights to try a deployment out"
            raise InputError(path, "there are no weights", remedy)
        trained = {} if path is None else read_plan(path)
        parser = read_bundle(root, {}, files, _NEEDED, "export")
        overlay = root / "configs" / f"{trained.get('model')}.json"
        if trained.get("model", parser.config.get("model")) != parser.config.get("model") and overlay.is_file():
            files = [str(overlay), *files]
        of_weights = {name: value for name, value in trained.items() if name in parser.config["plan"]}
        given = {"checkpoint": None if path is None else str(path), "device": device}
        parser = read_bundle(root, of_weights | dict(ids) | given, files, _NEEDED, "export")
        torch.manual_seed(0)
        try:
            with refusals():
                parser.get_parsed_content("checked")
                weights, network = (parser.get_parsed_content(name) for name in ("weights", "network_def"))
                settings = _settings(parser)
        except InputError:
            raise
        except Exception as error:  # a network's refusal of its arguments, wrapped in errors of MONAI
            reason = str(_first(error)) or type(error).__name__
            raise InputError(root.name, f"cannot be made ({reason})", "check --set and --config_file") from error
        network.to(device).float().eval()
        if path is None:
            _fill(network)
        else:
            load_weights(network, path, device, weights.complete)
        outputs = parser.config["_meta_"]["network_data_format"]["outputs"]
        return cls(root, network, settings, path, outputs["pred"]["channel_def"])

    def plan(self) -> ExportPlan:
        """Return what is exported of the network.

        Raises:
            InputError: nothing is known of this kind of network.
        """
        for kind, plan in _PLANS:
            if isinstance(self.network, kind):
                with torch.no_grad():
                    return plan(self.network, self.settings)
        known = ", ".join(kind.__name__ for kind, _ in _PLANS)
        raise InputError(self.root, f"a {type(self.network).__name__} has no known parts", f"export one of {known}")


def _settings(parser: ConfigParser) -> dict[str, Any]:
    """Return the plan, and what of the rest matters to a program that runs the network."""
    settings = dict(parser.get_parsed_content("plan"))
    for name in ("threshold", "gate_threshold"):
        if name in parser.config:
            settings[name] = parser.get_parsed_content(name)
    if "network_arguments" in parser.config:
        settings["frame_weights"] = parser.get_parsed_content("network_arguments").get("frame_weights", True)
    if "window_size" in settings:
        inferer = parser.get_parsed_content("inferer")
        for name in ("window_size", "window_strides", "patch_size", "patch_strides"):
            settings[name] = getattr(inferer, name)
    return settings


def _first(error: BaseException) -> BaseException:
    """Return where a chain of errors began."""
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    return error


def _fill(network: nn.Module) -> None:
    """Let every parameter and statistic count.

    In a new network residual scales are 0 and statistics those of nothing: a comparison would not see what is behind
    them.
    """
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.fill_(0.1)
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)

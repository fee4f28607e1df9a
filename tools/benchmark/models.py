"""The models that are compared on volumes: each is a bundle's ``inference.json`` with other components in places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tools.benchmark.nnunet_plan import make_plan, plan_network
from tools.benchmark.volumes import Volumes

__all__ = ["MODELS", "Grid", "Model"]

_CLASSES = 18
# As in MONAI's bundle wholeBody_ct_segmentation; it halves each axis three times.
_SEGRESNET = {
    "_target_": "SegResNet",
    "spatial_dims": 3,
    "init_filters": 32,
    "in_channels": 1,
    "out_channels": "@num_classes",
    "blocks_down": [1, 2, 2, 4],
    "blocks_up": [1, 1, 1],
}
_SEGRESNET_DIVISOR = [8, 8, 8]


@dataclass(frozen=True)
class Grid:
    """The grid that the bundle's own preprocessing brings the first volume to: (D, H, W).

    Attributes:
        size: voxels.
        spacing: mm.
    """

    size: Sequence[int]
    spacing: Sequence[float]


@dataclass(frozen=True)
class Model:
    """A row of the table.

    Attributes:
        title: what it is, in words.
        ids: from the bundle's grid and the volumes to the ids that replace those of ``inference.json``.
        bundle: whose ``inference.json`` it is.
        counted: the part of the network whose inputs are counted as passes; "": the network itself.
    """

    title: str
    ids: Callable[[Grid, Volumes], dict[str, Any]]
    bundle: str = "safnet"
    counted: str = ""


def _as_it_is(grid: Grid, volumes: Volumes) -> dict[str, Any]:
    return {}


def _sshsnet_fast(grid: Grid, volumes: Volumes) -> dict[str, Any]:
    return {"mode": "fast"}


def _padded(network: dict[str, Any], divisor: Sequence[int]) -> dict[str, Any]:
    return {"_target_": "common.networks.Padded", "network": network, "divisor": list(divisor)}


def _segresnet(grid: Grid, volumes: Volumes) -> dict[str, Any]:
    return {"network_def": _padded(_SEGRESNET, _SEGRESNET_DIVISOR)}


def _dynunet(grid: Grid, volumes: Volumes) -> dict[str, Any]:
    plan = plan_network(grid.spacing, grid.size)
    return {"network_def": _padded(plan.network(1, "@num_classes"), plan.divisor)}


def _segresnet_sliding(grid: Grid, volumes: Volumes) -> dict[str, Any]:
    return _sliding(volumes) | {"network_def": _padded(_SEGRESNET, _SEGRESNET_DIVISOR)}


def _dynunet_sliding(grid: Grid, volumes: Volumes) -> dict[str, Any]:
    plan = make_plan(volumes.median_spacing, volumes.median_shape, _CLASSES)
    return _sliding(volumes) | {"network_def": plan.network(1, "@num_classes")}


def _sliding(volumes: Volumes) -> dict[str, Any]:
    """Return nnU-Net's steps around a network, in the place of the bundle's own; reading and writing stay."""
    plan = make_plan(volumes.median_spacing, volumes.median_shape, _CLASSES)
    reader = {"_target_": "common.data.ScanReader", "_requires_": "@checked"}
    around = "tools.benchmark.nnunet_inference."
    return {
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image", "reader": reader},
                {"_target_": "EnsureChannelFirstd", "keys": "image"},
                {"_target_": "NormalizeIntensityd", "keys": "image"},
                {"_target_": around + "ToPlanGridd", "keys": "image", "spacing": list(plan.spacing)},
            ],
        },
        "inferer": {
            "_target_": around + "MirroredWindowInferer",
            "roi_size": list(plan.patch),
            "dtype": "$@arithmetic.dtype",
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {"_target_": around + "FromPlanGridd", "keys": "pred", "spacing": list(plan.spacing)},
                {
                    "_target_": "common.transforms.ChannelsToValuesd",
                    "_requires_": "@checked",
                    "keys": "pred",
                    "scheme": "@label_scheme",
                },
            ],
        },
    }


MODELS = {
    "safnet": Model("SAFNet, one pass", _as_it_is),
    "segresnet": Model("SegResNet, one pass on the same grid", _segresnet),
    "dynunet": Model("DynUNet, one pass on the same grid", _dynunet),
    "segresnet_sliding": Model("SegResNet, sliding window, mirrored", _segresnet_sliding),
    "dynunet_sliding": Model("DynUNet, sliding window, mirrored", _dynunet_sliding),
    "sshsnet": Model("SSHSNet, faithful: all windows and patches", _as_it_is, "sshsnet", "stage2"),
    "sshsnet_fast": Model("SSHSNet, fast: round the spine that stage 1 finds", _sshsnet_fast, "sshsnet", "stage2"),
}

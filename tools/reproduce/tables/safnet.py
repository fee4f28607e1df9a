"""The tables of the SAFNet paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tools.reproduce.results import Model, Published
from tools.reproduce.table import Row, Step, Table
from tools.reproduce.tables.spine import METRICS, SPINE, pictures, read_evaluation, structures

__all__ = ["TABLES"]

_PAPER = "A spine segmentation method based on scene aware fusion network, BMC Neuroscience 24, 49 (2023)"
_QUICK = {
    "spatial_size": [4, 32, 16],
    "max_epochs": 2,
    "val_interval": 1,
    "batch_size": 4,
    "num_validation": 1,
    "lr": 0.003,
}
_CAUTIONS = (
    "The paper's data are MRSpineSeg's 172 labelled scans; its text holds the five folds' means, and no standard "
    "deviations over cases: what stands behind its ± is over structures or folds.",
)

_FOLD_NOTE = (
    "The paper counts its folds from 1, so that its Fold_1 stands in our fold 0, and does not say which scans are in "
    "which: ours are others. The mean of its five figures is 0.8020, not the 0.8032 that it states. Of its five models "
    "together it has 0.7664 ± 0.0838 in Fold_2 and 0.8012 ± 0.0346 in Fold_5, and no figure of any of the other four."
)
# Dice in per cent, as printed.
_FOLDS = ((79.46, 4.63), (78.82, 7.97), (81.32, 3.45), (80.56, 5.47), (80.83, 3.48))


def _dice(percent: float, spread: float, where: str) -> dict[str, Published]:
    return {"dice": _share(percent, spread, where)}


def _share(percent: float, spread: float, where: str) -> Published:
    return Published(round(percent / 100, 4), f"± {spread / 100:.4f}", where)


def _row(
    key: str,
    title: str,
    overlays: Sequence[str] = (),
    published: Mapping[str, Published] | None = None,
    note: str = "",
    published_folds: Sequence[Published] = (),
    **ids: Any,
) -> Row:
    train = Step("train", ("train", *overlays), ids, trains=True)
    evaluate = Step(
        "evaluate", ("train", *overlays, "evaluate"), {**ids, "checkpoint": "{train}/model.pt", "overlays": "true"}
    )
    folds = {"dice": dict(enumerate(published_folds))} if published_folds else {}
    return Row(Model(key, title, dict(published or {}), note, folds), (train, evaluate))


_AS_FAR_AS_TOLD = "the paper names the network and its loss, not its layout"
_NOT_IN_PAPER = "not in the paper"


def _ablation(key: str, title: str, percent: float, spread: float, *parts: str) -> Row:
    switches = {part: part in parts for part in ("aspp", "multiscale_fusion", "self_attention")}
    return _row(key, title, published=_dice(percent, spread, "table 2"), **switches)


def _table(name: str, title: str, rows: Sequence[Row], quick_rows: Sequence[str], fold_note: str = "") -> Table:
    return Table(
        name, title, _PAPER, "safnet", SPINE, rows, METRICS, read_evaluation, structures("mrspineseg17"), num_folds=5,
        quick=_QUICK, quick_rows=quick_rows, pictures=pictures, fold_note=fold_note, cautions=_CAUTIONS,
    )  # fmt: skip


# Laid over half_size.json, release.json without what it adds of its own: half_size.json with one exam at a time, in
# slabs of eight slices. A running mean needs a share below 1; with this one it is the newest weights.
_PLAIN = {
    "mirror_prob": 0.0, "histogram_prob": 0.0, "inversion_prob": 0.0, "resolution_prob": 0.0, "ringing_prob": 0.0,
    "spike_prob": 0.0, "balance_power": 0.0, "average_momentum": 0.999, "contrast_prob": 0.5, "elastic_prob": 0.3,
}  # fmt: skip


def _augmentation(key: str, title: str, **changes: Any) -> Row:
    ids = {} if key == "release" else _PLAIN | changes
    train = Step("train", ("train", "half_size", "release"), ids, trains=True)
    evaluate = Step(
        "evaluate", ("train", "half_size", "evaluate"), {"checkpoint": "{train}/model.pt", "overlays": "true"}
    )
    return Row(Model(key, title), (train, evaluate))


TABLES = (
    _table(
        "safnet-comparison",
        "SAFNet beside other 3D networks",
        (
            _row(
                "safnet",
                "SAFNet",
                published=_dice(80.32, 5.00, "section Results, mean of five folds"),
                published_folds=[_share(*fold, "abstract and text to table 1") for fold in _FOLDS],
            ),
            _row("unet", "3D U-Net", ["unet"], note=_AS_FAR_AS_TOLD),
            _row("resunet", "3D ResUNet", ["resunet"], note=_AS_FAR_AS_TOLD),
            _row("deeplabv3", "3D DeepLabv3", ["deeplabv3"], note=_AS_FAR_AS_TOLD),
            _row("cfnet", "CFNet", ["cfnet"], note=_AS_FAR_AS_TOLD),
            _row("segresnet", "SegResNet (MONAI)", ["segresnet"], note=_NOT_IN_PAPER),
            _row("dynunet", "DynUNet (MONAI), as nnU-Net plans it", ["dynunet"], note=_NOT_IN_PAPER),
        ),
        ("safnet", "deeplabv3", "cfnet"),
        _FOLD_NOTE,
    ),
    _table(
        "safnet-ablation",
        "What each part of SAFNet brings",
        (
            _ablation("base", "Base", 77.15, 7.63),
            _ablation("aspp", "Base + ASPP", 81.12, 5.20, "aspp"),
            _ablation("fusion", "Base + multi-scale fusion", 80.53, 4.78, "multiscale_fusion"),
            _ablation("attention", "Base + self-attention", 79.76, 4.96, "self_attention"),
            _ablation("all", "all", 81.37, 3.68, "aspp", "multiscale_fusion", "self_attention"),
        ),
        (),
    ),
    _table(
        "safnet-augmentation",
        "What each change of the training brings to SAFNet",
        (
            _augmentation("plain", "plain recipe, in slabs of 8 slices, one exam at a time"),
            _augmentation("whole", "whole exams in the place of slabs", crop_slices=0),
            _augmentation("no_bias", "without the bias field", bias_prob=0.0),
            _augmentation("mirror", "left and right exchanged", mirror_prob=0.5),
            _augmentation("histogram", "contrast bent", histogram_prob=0.3),
            _augmentation("inversion", "contrast inverted", inversion_prob=0.1),
            _augmentation("resolution", "low resolution", resolution_prob=0.2),
            _augmentation("ringing", "ringing and spikes", ringing_prob=0.15, spike_prob=0.05),
            _augmentation("ghosting", "ghosts of motion", ghosting_prob=0.2),
            _augmentation("balance", "small sources drawn more often", balance_power=0.5),
            _augmentation("average", "running mean of the weights", average_momentum=0.01),
            _augmentation("release", "release.json: all of these but ghosts, in slabs"),
        ),
        ("plain", "release"),
    ),
)

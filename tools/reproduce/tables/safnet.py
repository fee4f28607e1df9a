"""The tables of the SAFNet paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tools.reproduce.results import Model, Published
from tools.reproduce.table import Row, Step, Table
from tools.reproduce.tables.spine import METRICS, SPINE, pictures, read_evaluation, structures

__all__ = ["TABLES"]

_PAPER = "A spine segmentation method based on scene aware fusion network, BMC Neuroscience 24, 49 (2023)"
_QUICK = {"spatial_size": [4, 32, 16], "max_epochs": 2, "batch_size": 4, "num_validation": 1, "lr": 0.003}
_CAUTIONS = (
    "The paper's data are MRSpineSeg's 172 labelled scans; its text holds the five folds' means, and no standard "
    "deviations over cases: what stands behind its ± is over structures or folds.",
)


def _dice(percent: float, spread: float, where: str) -> dict[str, Published]:
    return {"dice": Published(percent / 100, f"± {spread / 100:.4f}", where)}


def _row(
    key: str,
    title: str,
    overlays: Sequence[str] = (),
    published: Mapping[str, Published] | None = None,
    note: str = "",
    **ids: Any,
) -> Row:
    train = Step("train", ("train", *overlays), ids, trains=True)
    evaluate = Step(
        "evaluate", ("train", *overlays, "evaluate"), {**ids, "checkpoint": "{train}/model.pt", "overlays": "true"}
    )
    return Row(Model(key, title, dict(published or {}), note), (train, evaluate))


_AS_FAR_AS_TOLD = "the paper names the network and its loss, not its layout"
_NOT_IN_PAPER = "not in the paper"


def _ablation(key: str, title: str, percent: float, spread: float, *parts: str) -> Row:
    switches = {part: part in parts for part in ("aspp", "multiscale_fusion", "self_attention")}
    return _row(key, title, published=_dice(percent, spread, "table 2"), **switches)


def _table(name: str, title: str, rows: Sequence[Row], quick_rows: Sequence[str]) -> Table:
    return Table(
        name, title, _PAPER, "safnet", SPINE, rows, METRICS, read_evaluation, structures("mrspineseg17"), num_folds=5,
        quick=_QUICK, quick_rows=quick_rows, pictures=pictures, cautions=_CAUTIONS,
    )  # fmt: skip


TABLES = (
    _table(
        "safnet-comparison",
        "SAFNet beside other 3D networks",
        (
            _row("safnet", "SAFNet", published=_dice(80.32, 5.00, "section Results, mean of five folds")),
            _row("unet", "3D U-Net", ["unet"], note=_AS_FAR_AS_TOLD),
            _row("resunet", "3D ResUNet", ["resunet"], note=_AS_FAR_AS_TOLD),
            _row("deeplabv3", "3D DeepLabv3", ["deeplabv3"], note=_AS_FAR_AS_TOLD),
            _row("cfnet", "CFNet", ["cfnet"], note=_AS_FAR_AS_TOLD),
            _row("segresnet", "SegResNet (MONAI)", ["segresnet"], note=_NOT_IN_PAPER),
            _row("dynunet", "DynUNet (MONAI), as nnU-Net plans it", ["dynunet"], note=_NOT_IN_PAPER),
        ),
        ("safnet", "deeplabv3", "cfnet"),
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
)

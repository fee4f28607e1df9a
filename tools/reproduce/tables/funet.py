"""The tables of the FUnet paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from common.handlers.frame_overlays import overlays_in
from tools.reproduce.results import Model, Published
from tools.reproduce.table import Row, Step, Table
from tools.reproduce.tables.video import METRICS, VIDEO, read_evaluation

__all__ = ["TABLES"]

_PAPER = "Spinal nerve segmentation method and dataset construction in endoscopic surgical scenarios, MICCAI 2023"
_QUICK = {
    "spatial_size": [32, 64],
    "unet_features": [8, 16],
    "batch_size": 4,
    "max_epochs": 2,
    "num_validation": 1,
    "lr": 0.001,
}
_CAUTIONS = (
    "The paper's figures are of its own recordings of spinal nerves, which cannot be had, over the mean of its "
    "validation and its test part.",
)

_PICTURE_NOTE = (
    "Shown of each sequence is the frame with the median Dice. Green: the reference; orange: the model's mask at 0.5, "
    "as the network's grid has it."
)


def _published(dice: float, iou: float, mae: float, specificity: float, where: str) -> dict[str, Published]:
    values = {"maxDice": dice, "maxIoU": iou, "MAE": mae, "meanSpe": specificity}
    return {name: Published(value, "", where) for name, value in values.items()}


def _row(
    key: str, title: str, published: Mapping[str, Published], overlays: Sequence[str] = (), note: str = "", **ids: Any
) -> Row:
    """Single frames first, then clips, as the protocol has it."""
    pretrain = Step("pretrain", ("train", *overlays, "pretrain"), ids, trains=True)
    train = Step("train", ("train", *overlays), {**ids, "init_checkpoint": "{pretrain}/model.pt"}, trains=True)
    evaluate = Step(
        "evaluate", ("train", *overlays, "evaluate"), {**ids, "checkpoint": "{train}/model.pt", "overlays": "true"}
    )
    return Row(Model(key, title, dict(published), note), (pretrain, train, evaluate))


def _ablation(key: str, title: str, figures: Sequence[float], ifa: bool, csa: bool) -> Row:
    return _row(key, title, _published(*figures, "table 2"), use_ifa=ifa, use_csa=csa)


def _table(name: str, title: str, rows: Sequence[Row], quick_rows: Sequence[str]) -> Table:
    return Table(
        name, title, _PAPER, "funet", VIDEO, rows, METRICS, read_evaluation, num_folds=5, quick=_QUICK,
        quick_rows=quick_rows, pictures=overlays_in, picture_note=_PICTURE_NOTE, cautions=_CAUTIONS,
    )  # fmt: skip


_STAND_IN = "stands in the place of {}, which MONAI lacks; the paper's figures are that one's"

TABLES = (
    _table(
        "funet-comparison",
        "FUnet beside other networks",
        (
            _row("funet", "FUnet", _published(0.890, 0.833, 0.016, 0.885, "table 1")),
            _row("unet", "U-Net", _published(0.778, 0.702, 0.044, 0.881, "table 1"), ["unet"]),
            _row(
                "unetplusplus", "U-Net++", _published(0.775, 0.705, 0.026, 0.878, "table 1"), ["unetplusplus"]
            ),
            _row(
                "unetr", "UNETR", _published(0.825, 0.758, 0.082, 0.881, "table 1, TransUnet"), ["unetr"],
                _STAND_IN.format("TransUnet"),
            ),
            _row(
                "swinunetr", "SwinUNETR", _published(0.823, 0.752, 0.026, 0.877, "table 1, SwinUnet"), ["swinunetr"],
                _STAND_IN.format("SwinUnet"),
            ),
            _row("pnsnet", "PNSNet", _published(0.882, 0.823, 0.016, 0.885, "table 1"), ["pnsnet"]),
        ),
        ("funet", "pnsnet"),
    ),
    _table(
        "funet-ablation",
        "What frames' attention and positions' attention bring",
        (
            _ablation("base", "B*", (0.862, 0.798, 0.016, 0.885), False, False),
            _ablation("ifa", "B* + IFA", (0.884, 0.826, 0.015, 0.884), True, False),
            _ablation("all", "B* + IFA + CSA", (0.890, 0.833, 0.016, 0.885), True, True),
        ),
        ("base", "all"),
    ),
)  # fmt: skip

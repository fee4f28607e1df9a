"""The table of the SSHSNet paper: stage 1 alone and semi-supervised, and the three ways of fusion in stage 2."""

from __future__ import annotations

from collections.abc import Iterator

from tools.reproduce.results import Model
from tools.reproduce.table import Row, Step, Table
from tools.reproduce.tables.spine import METRICS, SPINE, pictures, read_evaluation, structures

__all__ = ["TABLES"]

_PAPER = (
    "Semi-supervised hybrid spine network for segmentation of spine MR images, Computerized Medical Imaging and "
    "Graphics 107 (2023) 102245"
)
_SHARES = (100, 50, 20, 10)
_FUSIONS = {
    "tri": ("tri_attention", "cross tri-attention"),
    "dual": ("dual_attention", "two-way attention"),
    "concat": ("concatenation", "concatenation"),
}
_QUICK = {
    "spacing": "[4.0,4.0,None]", "window_size": [64, 64, 4], "patch_size": [48, 48, 4], "width": 0.125,
    "layers": [1, 1, 1, 1], "num_patches": 2, "batch_size": 2, "stage1_max_epochs": 2, "max_epochs": 2,
    "val_interval": 1, "num_validation": 1, "window_strides": [48, 48, 2], "patch_strides": [40, 40, 4],
}  # fmt: skip


def _stage1(share: int, semi: bool) -> Row:
    how = "CPS" if semi else "labels alone"
    ids = {"labelled_share": share / 100, "semi_supervised": semi}
    train = Step("train", ("train", "train_stage1"), ids, trains=True, weights="stage1/model.pt")
    evaluate = Step(
        "evaluate",
        ("train", "evaluate", "evaluate_stage1"),
        {"checkpoint": "{train}/stage1/model.pt", "overlays": "true"},
    )
    model = Model(f"{'cps' if semi else 'supervised'}_{share}", f"Stage 1, {how}, {share} % labelled")
    return Row(model, (train, evaluate))


def _stage2(share: int, key: str) -> Row:
    """The three fusions of a share stand on the same stage 1, so that they differ in nothing else."""
    fusion, title = _FUSIONS[key]
    ids = {"labelled_share": share / 100, "fusion": fusion, "stage1_dir": f"{{cps_{share}/train}}/stage1"}
    train = Step("train", ("train", "train_stage2"), ids, trains=True)
    evaluate = Step(
        "evaluate", ("train", "evaluate"), {"fusion": fusion, "checkpoint": "{train}/model.pt", "overlays": "true"}
    )
    return Row(Model(f"{key}_{share}", f"Stage 2, {title}, {share} % labelled"), (train, evaluate))


def _rows() -> Iterator[Row]:
    for share in _SHARES:
        for key in _FUSIONS:
            yield _stage2(share, key)
        yield _stage1(share, True)
        yield _stage1(share, False)


TABLES = (
    Table(
        "sshsnet-comparison",
        "SSHSNet's stages and its fusion, with fewer and fewer labels",
        _PAPER,
        "sshsnet",
        SPINE,
        tuple(_rows()),
        METRICS,
        read_evaluation,
        structures("mrspineseg19"),
        num_folds=5,
        quick=_QUICK,
        quick_rows=("tri_50", "cps_50", "supervised_50"),
        pictures=pictures,
        cautions=("The paper's text at hand holds none of its figures.",),
    ),
)

"""The tables of the BESS paper, and the evaluation of both stages together that it does not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from common.handlers.frame_overlays import overlays_in
from tools.benchmark.frame_models import CLASSIFIERS, MODELS, SEGMENTERS, FrameModel
from tools.reproduce.results import Metric, Model, Published
from tools.reproduce.table import Row, Step, Table
from tools.reproduce.tables.frames import (
    CLASSIFIER_METRICS,
    COST_METRICS,
    FRAMES_KIND,
    GATED_METRICS,
    SEGMENTER_METRICS,
    read_classifier,
    read_cost,
    read_gated,
    read_segmenter,
)

__all__ = ["TABLES"]

_PAPER = "Rhee et al., Comparison of deep learning models for real-time neural tissue segmentation in spinal endoscopy"
_QUICK = {
    "classifier_size": [32, 32], "segmenter_size": [32, 32], "features": [4, 4, 8, 8],
    "max_epochs": 2, "classifier_max_epochs": 2, "expansion": 1, "batch_size": 8, "classifier_batch_size": 8,
    "samples": 50,
}  # fmt: skip
_CAUTIONS = ("The paper's recordings of spinal endoscopy cannot be had; its intervals are over images, not patients.",)

# Table 3: AUROC with its interval, accuracy, sensitivity, specificity, precision, FPR, FNR, NPV.
_TABLE_3 = {
    "resnet18": (0.92, "0.91 to 0.93", 0.84, 0.81, 0.86, 0.82, 0.14, 0.19, 0.86),
    "resnet34": (0.92, "0.91 to 0.93", 0.83, 0.77, 0.88, 0.83, 0.12, 0.23, 0.83),
    "mobilenetv3": (0.81, "0.79 to 0.83", 0.74, 0.73, 0.76, 0.70, 0.24, 0.27, 0.78),
}
# Table 4: DSC, IoU, accuracy, sensitivity, specificity, precision, FPR, FNR, AUPRC.
_TABLE_4 = {
    "unet": (0.79, 0.69, 0.94, 0.84, 0.95, 0.80, 0.05, 0.17, 0.86),
    "resunet": (0.80, 0.69, 0.94, 0.84, 0.96, 0.80, 0.04, 0.17, 0.87),
    "r2unet": (0.80, 0.69, 0.94, 0.83, 0.96, 0.81, 0.04, 0.17, 0.87),
    "aunet": (0.79, 0.69, 0.94, 0.84, 0.95, 0.80, 0.05, 0.17, 0.86),
    "aresunet": (0.79, 0.68, 0.94, 0.83, 0.95, 0.79, 0.05, 0.17, 0.86),
    "ar2unet": (0.80, 0.70, 0.94, 0.84, 0.96, 0.81, 0.04, 0.17, 0.88),
    "segformer_b0": (0.72, 0.61, 0.92, 0.72, 0.96, 0.78, 0.04, 0.28, 0.84),
    "segformer_b1": (0.70, 0.59, 0.92, 0.70, 0.96, 0.78, 0.04, 0.31, 0.84),
}

_OUTLINES = "Green: the reference; orange: what stage 2 marks."
_FEW = (
    "An evaluation draws few of its frames, evenly from the best to the worst: where the case itself has no picture, "
    "the nearest that has one stands here and says so."
)


def _published(metrics: Sequence[Metric], values: Sequence[float], where: str) -> dict[str, Published]:
    return {metric.key: Published(value, "", where) for metric, value in zip(metrics, values, strict=True)}


def _classifier(name: str, model: FrameModel) -> Row:
    auroc, interval, *rates = _TABLE_3[name]
    published = {"auroc": Published(auroc, interval, "table 3")}
    published |= _published(
        CLASSIFIER_METRICS[1:5] + CLASSIFIER_METRICS[6:] + CLASSIFIER_METRICS[5:6], rates, "table 3"
    )
    ids = {"classifier": name}
    train = Step("train", ("train", "train_classifier"), ids, trains=True, weights="classifier/model.pt")
    evaluate = Step(
        "evaluate",
        ("train", "train_classifier", "evaluate_classifier"),
        {**ids, "checkpoint": "{train}/classifier/model.pt", "overlays": "true"},
    )
    return Row(Model(name, model.title, published), (train, evaluate))


def _segmenter(name: str, model: FrameModel) -> Row:
    ids = {"segmenter": name}
    train = Step("train", ("train", "train_segmenter"), ids, trains=True)
    # Without a gate stage 2 is by itself, and needs no stage 1 that was trained.
    evaluate = Step(
        "evaluate",
        ("train", "evaluate"),
        {**ids, "gate_threshold": 0, "checkpoint": "{train}/model.pt", "overlays": "true"},
    )
    published = _published(SEGMENTER_METRICS, _TABLE_4[name], "table 4")
    return Row(Model(name, model.title, published), (train, evaluate))


def _cost(name: str, model: FrameModel) -> Row:
    figures = (model.million, model.gflops, model.milliseconds)
    step = Step(
        "evaluate",
        program="tools.benchmark.frames",
        arguments=("--parts", "models", "--models", name, "--output", "{this}/cost.json"),
        quick_arguments=("--frames", "2", "--warm_up", "1"),
    )
    return Row(Model(name, model.title, _published(COST_METRICS[:3], figures, "table 5")), (step,))


def _two_stages() -> list[Row]:
    train = Step("train", ("train",), trains=True, epochs=("max_epochs", "classifier_max_epochs"))
    evaluate = Step("evaluate", ("train", "evaluate"), {"checkpoint": "{train}/model.pt", "overlays": "true"})
    gates: Mapping[str, tuple[str, Any]] = {
        "open": ("no gate: stage 2 on every frame", 0.0),
        "gate_25": ("gate at 0.25", 0.25),
        "gate_50": ("gate at 0.5", 0.5),
        "gate_75": ("gate at 0.75", 0.75),
        "closed": ("gate closed: nothing is ever marked", 1.1),
    }
    return [
        Row(
            Model(key, title),
            (train, evaluate) if key == "open" else (),
            "evaluate" if key == "open" else "open/evaluate",
            {"gate": gate},
        )
        for key, (title, gate) in gates.items()
    ]


def _table(name: str, title: str, rows: Sequence[Row], metrics: Sequence[Metric], read: Any, **more: Any) -> Table:
    return Table(name, title, _PAPER, "bess", FRAMES_KIND, rows, metrics, read, quick=_QUICK,
                 pictures=overlays_in,
                 **{"num_folds": 3, "cautions": _CAUTIONS, "picture_note": f"{_OUTLINES} {_FEW}", **more})  # fmt: skip


TABLES = (
    _table(
        "bess-classifiers",
        "Is neural tissue in sight: three classifiers",
        tuple(_classifier(name, model) for name, model in CLASSIFIERS.items()),
        CLASSIFIER_METRICS,
        read_classifier,
        picture_note=f"Green: what is drawn; p: the classifier's probability. {_FEW}",
        quick_rows=("resnet18", "mobilenetv3"),
    ),
    _table(
        "bess-segmenters",
        "Where is it: eight networks, on the frames with tissue",
        tuple(_segmenter(name, model) for name, model in SEGMENTERS.items()),
        SEGMENTER_METRICS,
        read_segmenter,
        quick_rows=("unet", "aunet"),
    ),
    _table(
        "bess-cost",
        "What each network costs",
        tuple(_cost(name, model) for name, model in MODELS.items()),
        COST_METRICS,
        read_cost,
        num_folds=1,
        data=False,
        quick_rows=("resnet18", "unet"),
        cautions=("The paper's times are of an RTX 4090; random weights, on which times do not depend.",),
    ),
    _table(
        "bess-two-stage",
        "Both stages, at several thresholds of the gate",
        tuple(_two_stages()),
        GATED_METRICS,
        read_gated,
        picture_note=(
            f"{_OUTLINES} It stands there whether or not the gate lets it; in the picture are stage 1's probability p "
            f"and stage 2's own DSC. {_FEW}"
        ),
        cautions=(
            "The paper scores each stage by itself and has no figures of both together.",
            "A frame without tissue on which nothing is marked scores DSC 1, one with any mark 0.",
        ),
    ),
)

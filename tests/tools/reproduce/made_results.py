"""Made-up results of a re-run table: five folds, three structures, models in every state, names that bite."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from tools.reproduce.results import Figure, Job, Metric, Model, Published, Results, Score, State

DICE = Metric("dice", "Dice")
HD95 = Metric("hd95", "HD95", "mm", higher_is_better=False, decimals=2)
HOSTILE = "<script>alert(1)</script> a|b *c* `d`"
STRUCTURES = ("L5", "L4/L5", "S", "T9")
FOLDS, CASES = 5, 4

MODELS = (
    Model("unet", "3D U-Net", {"dice": Published(0.8121, "± 0.041", "Table 2")}),
    Model(
        "safnet", "SAFNet", {"dice": Published(0.9, "", "Table 2"), "hd95": Published(3.1, "± 1.2")}, "ours is wider"
    ),
    Model("dynunet", "DynUNet, nnU-Net-like"),
    Model("cfnet", "CFNet"),
    Model("hostile", HOSTILE),
)
STATES = {"cfnet": State.FAILED, "hostile": State.UNFINISHED, "dynunet": State.UNFINISHED}


def made_results(folder: Path, epochs: int = 12) -> Results:
    """A table whose third model has two folds of five, whose fourth failed and whose fifth has not begun."""
    rng = np.random.default_rng(0)
    scores: list[Score] = []
    for number, model in enumerate(("unet", "safnet", "dynunet")):
        for fold in range(2 if model == "dynunet" else FOLDS):
            for at in range(CASES):
                scores += _case(model, fold, f"case{fold}{at}", f"P{fold}{at // 2}", 0.8 + 0.04 * number, rng)
    jobs = [job for model in MODELS for fold in range(FOLDS) for job in _jobs(model.key, fold, folder, epochs, rng)]
    pictures = {
        ("safnet", fold, f"case{fold}{at}"): _picture(folder / f"p{fold}{at}.png", rng)
        for fold in range(FOLDS)
        for at in range(CASES)
    }
    return Results(
        table="safnet-comparison",
        title="SAFNet beside other networks, five folds",
        paper="Made-up et al., A paper & its <table>, 2026",
        command="python -m tools.reproduce safnet-comparison --dataset_dir DATA",
        models=MODELS,
        metrics=(DICE, HD95),
        scores=scores,
        jobs=jobs,
        pictures=pictures,
        picture_note="Made-up pictures: noise.",
        structures=STRUCTURES,
        data={"cases": "20", "SHA-256 of the list": "ab" * 32},
        splits={fold: _split(fold) for fold in range(FOLDS)},
        never_tested=("case99",),
        cautions=("Made-up figures: they show nothing.", f"A caution of {HOSTILE}"),
        versions={"torch": "2.13.0", "monai": "1.6.1"},
        seeds={"unet": 0, "safnet": 1},
    )


def cost_results() -> Results:
    """A table of figures only, as of costs."""
    metrics = (
        Metric("parameters", "Parameters", "M", None, 2),
        Metric("latency", "Latency", "ms", higher_is_better=False, decimals=1),
    )
    models = (Model("big", "Big", {"parameters": Published(25.3)}), Model("small", "Small"), Model("lost", "Lost"))
    figures = [
        Figure("big", "parameters", 25.31), Figure("small", "parameters", 3.5),
        Figure("big", "latency", 12.34, 5, 11.0, 15.5), Figure("small", "latency", 2.5, 5, 2.25, 3.0),
    ]  # fmt: skip
    jobs = [Job(f"{m}/cost", m, None, "evaluate", State.DONE, f"cost {m}", seconds=3.0) for m in ("big", "small")]
    jobs.append(Job("lost/cost", "lost", None, "evaluate", State.FAILED, "cost lost", error="error: lost: no; find it"))
    return Results(
        "bess-cost", "Costs", "A paper", "python -m tools.reproduce bess-cost", models, metrics, (), figures, jobs
    )


def classifier_results(positives: int = 6, negatives: int = 6) -> Results:
    """A table of one classifier's AUROC."""
    metric = Metric("auroc", "AUROC", statistic="auroc")
    rng = np.random.default_rng(3)
    scores = [
        Score(
            model,
            None,
            f"image{at}",
            f"P{at}",
            "auroc",
            float(rng.random() / 2 + shift * (at < positives)),
            "",
            float(at < positives),
        )
        for model, shift in (("a", 0.4), ("b", 0.1))
        for at in range(positives + negatives)
    ]
    return Results(
        "bess-classifiers", "Classifiers", "A paper", "command", (Model("a", "A"), Model("b", "B")), (metric,), scores
    )


def with_score(results: Results, **changes: object) -> Results:
    """The same with its first score changed."""
    return replace(results, scores=[replace(results.scores[0], **changes), *results.scores[1:]])


def _case(model: str, fold: int, case: str, subject: str, level: float, rng: np.random.Generator) -> list[Score]:
    dice = np.clip(level + 0.05 * rng.standard_normal(3), 0, 1)
    found = [
        Score(model, fold, case, subject, "dice", float(value), name)
        for value, name in zip(dice, STRUCTURES, strict=False)
    ]
    found.append(Score(model, fold, case, subject, "dice", float(dice.mean())))
    if model != "dynunet":
        found += [
            Score(model, fold, case, subject, "hd95", float(10 * (1 - value)), name)
            for value, name in zip(dice, STRUCTURES, strict=False)
        ]
    return found


def _split(fold: int) -> dict[str, list[str]]:
    cases = {part: [f"case{part}{at}" for at in range(CASES)] for part in range(FOLDS)}
    rest = [case for part, of_part in cases.items() if part != fold for case in of_part]
    return {"train": rest[4:], "validation": rest[:4], "test": cases[fold]}


def _jobs(model: str, fold: int, folder: Path, epochs: int, rng: np.random.Generator) -> list[Job]:
    state = STATES.get(model, State.DONE)
    if (model == "dynunet" and fold < 2) or (model == "cfnet" and fold != 1):
        state = State.DONE if model == "dynunet" else State.UNFINISHED
    done = state is State.DONE
    words = {"seconds": 3700.0, "machine": "Some GPU"} if done else {}
    error = "error: CASE|1: <b>cannot be read</b>; look at it" if state is State.FAILED else ""
    train = Job(
        f"{model}/fold_{fold}/train", model, fold, "train", state, f"python -m train --fold {fold} --name 'a|b' <x>",
        error, selected_by="best mean Dice of the validation part (epoch 9 of 12)" if done else "",
        weights_sha256="cd" * 32 if done else "",
        history=_history(folder / f"{model}_{fold}.csv", epochs if done else epochs // 2, rng)
        if state is not State.FAILED and model != "hostile" else None,
        **words,
    )  # fmt: skip
    waiting = State.UNFINISHED if state is State.FAILED else state
    evaluate = Job(
        f"{model}/fold_{fold}/evaluate", model, fold, "evaluate", waiting, "python -m evaluate", **words,
    )  # fmt: skip
    return [train, evaluate]


def _history(path: Path, epochs: int, rng: np.random.Generator) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "loss", "val_mean_dice"])
        for epoch in range(1, epochs + 1):
            level = 1.2 * np.exp(-3 * epoch / epochs) + 0.05 * rng.random()
            writer.writerow([epoch, level + 0.1, 0.9 - level / 2 if epoch % 2 == 0 else ""])
    return path


def _picture(path: Path, rng: np.random.Generator) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    size = (60, 90)
    Image.fromarray(rng.integers(0, 255, size=(*size, 3), dtype=np.uint8)).resize((360, 240)).save(path)
    return path

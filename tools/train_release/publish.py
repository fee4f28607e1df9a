"""Puts trained weights and what was measured into the bundle."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from common.data.atomic import atomic_path, write_json
from common.data.plan import plan_file, read_plan
from common.data.provenance import provenance
from common.data.weight_parts import split_into_parts
from common.visualize.curves import save_figure
from tools.bundle_files import ROOT, WEIGHTS
from tools.train_release.cross_validation import COLUMNS, write_cross_validation
from tools.train_release.recipe import Recipe
from tools.train_release.release import Trained

__all__ = ["LARGEST", "chosen_figures", "curves_figure", "publish"]

LARGEST = 90_000_000  # bytes of a file that the repository takes
_DIGITS = 4
_WHOLE = COLUMNS[1:]  # of the cross-validation


def publish(
    recipe: Recipe,
    trained: Trained | None,
    cross_validation: Mapping[str, Any] | None = None,
    results: Path = ROOT / "docs" / "results",
) -> list[Path]:
    """Put weights, plan and figures into the bundle, and the small part of the log into ``docs/results/NAME``.

    Args:
        recipe: of the bundle.
        trained: what is published; None where the weights and their figures are there already.
        cross_validation: what all folds together have shown, where there is such.
        results: folder of the logs.

    Returns:
        The files that are for the repository: weights (in parts where they are larger than it takes), their plan and
        provenance (with their SHA-256, and how they were chosen from several), the metadata, tables of the trainings,
        of the evaluation and of the cross-validation, pictures of the trainings. An earlier publication's
        cross-validation is removed.

    Raises:
        InputError: a file cannot be written.
    """
    folder = results / recipe.root.name
    written = []
    metadata_file = recipe.root / "configs" / "metadata.json"
    metadata = json.loads(metadata_file.read_text(encoding="utf-8"))
    if trained is not None:
        written += _publish_weights(recipe, trained)
        metadata["eval_metrics"] = chosen_figures(trained.evaluation.summary, recipe.figures)
        written += _publish_logs(recipe, trained, folder)
    if cross_validation is not None:
        parts = {"folds": len(cross_validation["folds"])} | {
            name: cross_validation[name] for name in ("groups", *_WHOLE)
        }
        metadata["eval_metrics"]["cross_validation"] = _rounded(parts)
    write_json(metadata_file, metadata)
    for table in folder.glob("cross_validation*"):
        table.unlink()
    if cross_validation is not None:
        written += write_cross_validation(cross_validation, folder)
    return [*written, metadata_file]


def _publish_weights(recipe: Recipe, trained: Trained) -> list[Path]:
    target = recipe.root / WEIGHTS
    written = [_copied(trained.weights, target)]
    if target.stat().st_size > LARGEST:
        written = split_into_parts(target, target, LARGEST)
    write_json(plan_file(target), read_plan(trained.weights))
    settings: dict[str, Any] = {"recipe": recipe.root.name, "half_precision": trained.half}
    if len(trained.candidates) > 1:
        settings["chosen"] = {
            "from": trained.origin,
            "score": "/".join(recipe.score),
            "part": recipe.evaluation.ids.get("part"),
            "scores": _rounded(trained.candidates),
        }
    origin = provenance(recipe.root, target, None, settings)
    origin["weights"]["file"] = WEIGHTS
    write_json(target.with_name("provenance.json"), origin)
    return [*written, plan_file(target), target.with_name("provenance.json")]


def _publish_logs(recipe: Recipe, trained: Trained, folder: Path) -> list[Path]:
    written = []
    for stage in {stage.name: stage for stage in recipe.stages}.values():
        for table in sorted((trained.folder / stage.name).rglob("history.csv")):
            name = "_".join(table.relative_to(trained.folder).parts[:-1])
            written.append(_copied(table, folder / f"{name}_history.csv"))
            save_figure(folder / f"{name}_history.png", curves_figure(table, name))
            written.append(folder / f"{name}_history.png")
    for table in sorted(trained.evaluation.folder.glob("*.csv")):
        if table.name in recipe.tables:
            written.append(_copied(table, folder / table.name))
    return written


def chosen_figures(summary: Mapping[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """Take figures out of an evaluation's summary, rounded.

    Args:
        summary: numbers, in dictionaries.
        paths: where they stand, such as ``groups/*/dice``; what is not there is left out.

    Returns:
        The same, with nothing but these.
    """
    chosen: dict[str, Any] = {}
    for path in paths:
        _take(summary, path.split("/"), chosen)
    return chosen


def _take(source: Mapping[str, Any], names: Sequence[str], target: dict[str, Any]) -> None:
    name, *rest = names
    for key in source if name == "*" else [name] if name in source else []:
        if not rest:
            target[key] = _rounded(source[key])
        elif isinstance(source[key], Mapping):
            _take(source[key], rest, target.setdefault(key, {}))


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, (list, tuple)):
        return [_rounded(entry) for entry in value]
    return round(value, _DIGITS) if isinstance(value, float) else value


def curves_figure(table: Path, title: str) -> Figure:
    """Draw the loss, and below it the validation's metrics, over the epochs.

    Args:
        table: a training's ``history.csv``.
        title: stands above.
    """
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = list(rows[0])
    metrics = [name for name in names if name.startswith("val_")]
    figure = Figure(figsize=(6.0, 5.0 if metrics else 2.8), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    plots = figure.subplots(2 if metrics else 1, 1, sharex=True, squeeze=False)[:, 0]
    for axes, columns in zip(plots, (["loss"], metrics), strict=False):
        for column in columns:
            points = [(int(row["epoch"]), float(row[column])) for row in rows if row.get(column)]
            axes.plot(*zip(*points, strict=True), marker=".", label=column)
        axes.grid(color="0.92")
        axes.legend(frameon=False)
    plots[0].set_title(title, loc="left", parse_math=False)
    plots[-1].set_xlabel("epoch")
    return figure


def _copied(source: Path, target: Path) -> Path:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
    return target

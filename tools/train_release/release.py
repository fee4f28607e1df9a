"""One run of a recipe: its trainings, the weights in half precision, and their evaluation."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.data.atomic import write_json
from common.data.plan import plan_file, read_plan
from common.errors import InputError
from tools.bundle_process import TrainingError, training_command, wait_for
from tools.train_release.recipe import Recipe, Stage
from tools.train_release.spine_data import write_datalist
from tools.train_release.weights import halved, read_tensors, save_tensors

__all__ = ["MODEL", "TOLERANCE", "Trained", "cross_validated", "run_recipe"]

MODEL, SUMMARY = "model.pt", "summary.json"
# By how much half precision may change the score before it is not used.
TOLERANCE = 0.001
_RESERVED = ("output_dir", "dataset_dir", "datalist", "fold", "num_folds", "resume", "checkpoint", "config_file")

RunBundle = Callable[[Sequence[str], Path], None]


@dataclass(frozen=True)
class Trained:
    """What a run has given.

    Attributes:
        folder: of the run.
        weights: the file that can be shipped, with its plan beside it.
        half: whether it is in half precision.
        summary: the ``summary.json`` of its evaluation.
        scores: by ``full`` and ``half`` precision, the recipe's score.
    """

    folder: Path
    weights: Path
    half: bool
    summary: Mapping[str, Any]
    scores: Mapping[str, float]


def run_recipe(
    recipe: Recipe,
    dataset_dir: Path,
    run: Path,
    fold: int | None,
    ids: Mapping[str, Any] | None = None,
    report: Callable[[str], None] = print,
    run_bundle: RunBundle = wait_for,
) -> Trained:
    """Train, halve, evaluate; what an earlier run has done is not done again.

    Args:
        recipe: what to do.
        dataset_dir: the data.
        run: the folder of the results.
        fold: the held-out one; None where the data's parts are published.
        ids: further ids of all stages and the evaluation, which go before the recipe's.
        report: is told of each step.
        run_bundle: runs the words behind ``python``, and adds what they say to a log file.

    Returns:
        What came out.

    Raises:
        InputError: an id cannot be set; or a training or an evaluation failed, with its own line.
    """
    given = dict(ids or {})
    if reserved := sorted(given.keys() & set(_RESERVED)):
        raise InputError(f"--set {reserved[0]}", "is what this program itself sets", "leave it out")
    run.mkdir(parents=True, exist_ok=True)
    data: dict[str, Any] = {"dataset_dir": str(dataset_dir)}
    if fold is not None:
        data |= {"fold": fold, "num_folds": len(recipe.folds)}
    if recipe.phantoms:
        report("the data list, and phantoms")
        data["datalist"] = str(write_datalist(dataset_dir, recipe.phantoms, run, fold or 0, len(recipe.folds)))

    def step(stage: Stage, output: Path, more: Mapping[str, Any]) -> None:
        words = training_command(
            recipe.files(stage), recipe.set_for(stage, run) | given | data | {"output_dir": str(output), **more}
        )
        words += ["--bundle_root", str(recipe.root)]
        log = output.with_name(f"{output.name}.log")
        report(f"{stage.name}: {output} (log: {log})")
        try:
            run_bundle(words, log)
        except TrainingError as error:
            raise InputError(log, str(error), "mend it, and give the same command again") from error

    for stage in recipe.stages:
        output = run / stage.name
        resume = (output / stage.state).is_file()
        step(stage, output, {"resume": "true"} if resume else {})

    found = run / recipe.weights
    scores, summaries = {}, {}
    for name, tensors in (("full", read_tensors(found)), ("half", halved(read_tensors(found)))):
        weights = run / name / MODEL
        save_tensors(tensors, weights)
        write_json(plan_file(weights), read_plan(found) | recipe.settings)
        output = run / f"evaluation_{name}"
        step(recipe.evaluation, output, {"checkpoint": str(weights)})
        summaries[name] = json.loads((output / SUMMARY).read_text(encoding="utf-8"))
        scores[name] = _score(summaries[name], recipe.score)
    half = bool(abs(scores["half"] - scores["full"]) <= TOLERANCE)
    chosen = "half" if half else "full"
    report(f"score in full precision {scores['full']:.4f}, in half {scores['half']:.4f}: {chosen} is used")
    return Trained(run, run / chosen / MODEL, half, summaries[chosen], scores)


def cross_validated(results: Mapping[int, Trained]) -> dict[str, Any]:
    """Put the cases of all folds together.

    Args:
        results: by fold; their summaries hold ``cases``, a score for each.

    Returns:
        Mean, standard deviation and number of the cases, and the score of each, with its fold.
    """
    rows = {case: (score, fold) for fold, done in results.items() for case, score in done.summary["cases"].items()}
    scores = [score for score, _ in rows.values() if score is not None]
    mean = math.fsum(scores) / len(scores) if scores else math.nan
    spread = math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / len(scores)) if scores else math.nan
    cases = {case: {"score": score, "fold": fold} for case, (score, fold) in sorted(rows.items())}
    return {"mean": mean, "sd": spread, "cases": len(scores), "each": cases}


def _score(summary: Mapping[str, Any], path: Sequence[str]) -> float:
    found: Any = summary
    for name in path:
        found = found[name]
    return math.nan if found is None else float(found)

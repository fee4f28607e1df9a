"""One run of a recipe: its trainings, the weights in half precision, and their evaluation."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common.data.atomic import write_json
from common.data.plan import plan_file, read_plan
from common.data.provenance import sha256_of
from common.errors import InputError
from tools.bundle_process import TrainingError, training_command, wait_for
from tools.train_release.recipe import Candidate, Recipe, Stage
from tools.train_release.spine_data import write_datalist
from tools.train_release.weights import halved, read_tensors, save_tensors

__all__ = ["MODEL", "TOLERANCE", "Evaluation", "Trained", "run_recipe"]

MODEL, SUMMARY, REQUEST = "model.pt", "summary.json", "request.json"
DONE = "done_{}.json"  # in a stage's folder, by its number, as stages may share one
# By how much half precision may change the score before it is not used.
TOLERANCE = 0.001
_RESERVED = ("output_dir", "dataset_dir", "datalist", "fold", "num_folds", "resume", "checkpoint", "config_file")

RunBundle = Callable[[Sequence[str], Path], None]


@dataclass(frozen=True)
class Evaluation:
    """What weights were found to be worth.

    Attributes:
        folder: of its tables.
        summary: the ``summary.json`` of it.
        score: the recipe's, of the summary.
    """

    folder: Path
    summary: Mapping[str, Any]
    score: float


@dataclass(frozen=True)
class Trained:
    """What a run has given.

    Attributes:
        folder: of the run.
        weights: the file that can be shipped, with its plan beside it.
        half: whether it is in half precision.
        evaluation: of these very weights.
        origin: the recipe's weights that they are made of.
        candidates: the score, in full precision, of each of those that the recipe chooses from.
    """

    folder: Path
    weights: Path
    half: bool
    evaluation: Evaluation
    origin: str
    candidates: Mapping[str, float]


def run_recipe(
    recipe: Recipe,
    dataset_dir: Path,
    run: Path,
    fold: int | None,
    ids: Mapping[str, Any] | None = None,
    report: Callable[[str], None] = print,
    run_bundle: RunBundle = wait_for,
) -> Trained:
    """Train, evaluate, choose, halve, evaluate; what an earlier run has done is not done again.

    Args:
        recipe: what to do.
        dataset_dir: the data.
        run: the folder of the results.
        fold: the held-out one; None where the data's parts are published.
        ids: further ids of the stages and the evaluation, each for those that have it; they go before the recipe's.
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
    steps = _Steps(recipe, run, given, data, report, run_bundle)
    for number, stage in enumerate(recipe.stages):
        steps.train(number, stage)

    tensors = {one.file: read_tensors(run / one.file) for one in recipe.weights}
    found = {one.file: steps.evaluate(one, run / one.file, f"evaluation_{one.stage}") for one in recipe.weights}
    candidates = {file: one.score for file, one in found.items()}
    comparable = {file: -math.inf if math.isnan(score) else score for file, score in candidates.items()}
    chosen = max(recipe.weights, key=lambda one: comparable[one.file])  # the first of equals
    if len(candidates) > 1:
        words = ", ".join(f"{file} {score:.4f}" for file, score in candidates.items())
        report(f"score of {words}: {chosen.file} is used")
    for name, content in (("full", tensors[chosen.file]), ("half", halved(tensors[chosen.file]))):
        save_tensors(content, run / name / MODEL)
        write_json(plan_file(run / name / MODEL), read_plan(run / chosen.file) | chosen.settings)
    full, half = found[chosen.file], steps.evaluate(chosen, run / "half" / MODEL, "evaluation_half")
    use_half = bool(abs(half.score - full.score) <= TOLERANCE)
    used = "half" if use_half else "full"
    report(f"score in full precision {full.score:.4f}, in half {half.score:.4f}: {used} is used")
    return Trained(run, run / used / MODEL, use_half, half if use_half else full, chosen.file, candidates)


class _Steps:
    """The processes of one run, each with its log.

    Args:
        recipe: what to do.
        run: the folder of the results.
        given: ids of the steps that have them, which go before the recipe's.
        data: ids of all steps.
        report: is told of each step.
        run_bundle: see :func:`run_recipe`.
    """

    def __init__(
        self,
        recipe: Recipe,
        run: Path,
        given: Mapping[str, Any],
        data: Mapping[str, Any],
        report: Callable[[str], None],
        run_bundle: RunBundle,
    ) -> None:
        self.recipe, self.run, self.given, self.data = recipe, run, given, data
        self.report, self.run_bundle = report, run_bundle

    def train(self, number: int, stage: Stage) -> None:
        """Train a stage from its beginning, or from where it was interrupted; not if this very one was finished."""
        output = self.run / stage.name
        done = output / DONE.format(number)
        resume = (output / stage.state).is_file()
        words = self._words(stage, output, {})
        if resume and _read(done) == {"command": words}:
            return
        done.unlink(missing_ok=True)
        self._start(stage.name, [*words, *(["--resume", "true"] if resume else [])], output)
        write_json(done, {"command": words})

    def evaluate(self, candidate: Candidate, weights: Path, name: str) -> Evaluation:
        """Evaluate weights into the folder ``name``, unless these very weights were evaluated so before."""
        output = self.run / name
        stage = replace(self.recipe.evaluation, ids={**self.recipe.evaluation.ids, **candidate.settings})
        words = self._words(stage, output, {"checkpoint": str(weights)})
        request = {"command": words, "weights": sha256_of(weights)}
        if _read(output / REQUEST) != request:
            (output / REQUEST).unlink(missing_ok=True)
            self._start(stage.name, words, output)
            write_json(output / REQUEST, request)
        summary = json.loads((output / SUMMARY).read_text(encoding="utf-8"))
        return Evaluation(output, summary, _score(summary, self.recipe.score))

    def _words(self, stage: Stage, output: Path, more: Mapping[str, Any]) -> list[str]:
        given = {name: value for name, value in self.given.items() if self.recipe.takes(stage, name)}
        ids = self.recipe.set_for(stage, self.run) | given | self.data | {"output_dir": str(output), **more}
        return [*training_command(self.recipe.files(stage), ids), "--bundle_root", str(self.recipe.root)]

    def _start(self, what: str, words: Sequence[str], output: Path) -> None:
        log = output.with_name(f"{output.name}.log")
        self.report(f"{what}: {output} (log: {log})")
        try:
            self.run_bundle(words, log)
        except TrainingError as error:
            raise InputError(log, str(error), "mend it, and give the same command again") from error


def _score(summary: Mapping[str, Any], path: Sequence[str]) -> float:
    found: Any = summary
    for name in path:
        found = found[name]
    return math.nan if found is None else float(found)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

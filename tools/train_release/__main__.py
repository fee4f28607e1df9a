"""Train the weights that a bundle ships, and measure them: ``python -m tools.train_release NAME``.

What is trained, and how, stands in tools/train_release/NAME.json: the bundle's own train.json with its release.json
laid over it, in one stage or several, each run as ``python -m monai.bundle run``. RUN then holds a folder and a log for
each stage, the weights in full and in half precision, and the evaluation of both. Where half precision changes the
score by no more than 0.001, it is what can be shipped. The same command goes on where it was interrupted.
Of weights of several stages, the ones with the best score in the recipe's evaluation are taken.

--folds all trains once for each fold, which takes as many times as long, and writes RUN/cross_validation.csv: mean and
standard deviation over the subjects of each fold, of each group of exams and of all, with every case in
RUN/cross_validation_cases.csv; the weights of a fold are in RUN/fold_N. --publish puts the weights into the bundle's
models/, the figures into its metadata, and tables and curves into docs/results/NAME: only then anything outside RUN is
written. With --folds these are the weights of the recipe's own fold, and what the folds together have shown goes with
them.

Folds can be trained on several machines, or at several times: --other_folds takes the cross_validation_cases.csv of
other runs of the same recipe, with the cross_validation_recipe.json beside it, and counts their folds with those that
are trained here. Where the recipe's own fold is among those, --publish leaves the bundle's weights as they are.

Exit status: 0 when all is done, 1 after an error, which is one line, and 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.engines.launch import Switches, error_line
from common.errors import InputError
from tools.arguments import OneLineParser
from tools.bundle_process import wait_for
from tools.configuration import ids_in_words
from tools.search.configuration import Configuration
from tools.train_release.cross_validation import (
    cross_validated,
    read_case_rows,
    read_other_folds,
    what_was_trained,
    write_cross_validation,
)
from tools.train_release.publish import publish
from tools.train_release.recipe import Recipe, recipe_names
from tools.train_release.release import RunBundle, Trained, run_recipe


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = OneLineParser("python -m tools.train_release", __doc__)
    parser.add_argument("name", metavar="NAME", help=f"of the bundle: {', '.join(recipe_names())}")
    parser.add_argument(
        "--dataset_dir", required=True, type=Path, metavar="DIR", help="the data, as train.json has them"
    )
    parser.add_argument("--output", required=True, type=Path, metavar="RUN", help="folder of all that is trained")
    parser.add_argument("--fold", type=int, metavar="N", help="the held-out one; default: the recipe's")
    parser.add_argument("--folds", metavar="N,N", help="cross-validate: such as 0,1,2, or all")
    parser.add_argument(
        "--other_folds",
        nargs="+",
        default=[],
        type=Path,
        metavar="FILE",
        help="cross_validation_cases.csv of folds that were trained elsewhere",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="ID=VALUE",
        help="change an id wherever it is one, such as device=cuda:0",
    )
    parser.add_argument("--publish", action="store_true", help="put weights and figures into the bundle")
    return parser.parse_args(argv)


def _folds(options: argparse.Namespace, recipe: Recipe) -> list[int | None]:
    """Return the folds that are asked for; None stands for the published parts of data that have no folds."""
    if (options.fold is not None or options.folds is not None) and not recipe.folds:
        raise InputError(options.name, "is trained on published parts, not folds", "leave out --fold and --folds")
    if options.folds is None:
        folds = [recipe.fold if options.fold is None else options.fold]
    elif options.fold is not None:
        raise InputError("--fold", "says the same as --folds", "leave one of them out")
    elif options.folds == "all":
        folds = list(recipe.folds)
    elif re.fullmatch(r"\d+(,\d+)*", options.folds):
        folds = [int(word) for word in options.folds.split(",")]
    else:
        raise InputError(f"--folds {options.folds}", "are no numbers with commas", "pass some such as 0,1,2, or all")
    if strange := [fold for fold in folds if recipe.folds and fold not in recipe.folds]:
        raise InputError(f"fold {strange[0]}", "there is none", f"the folds are {', '.join(map(str, recipe.folds))}")
    if options.other_folds and options.folds is None:
        raise InputError("--other_folds", "are of a cross-validation", "pass --folds with those to train here")
    return folds


def _ids(pairs: Sequence[str], recipe: Recipe) -> dict[str, str]:
    steps = (*recipe.stages, recipe.evaluation)
    ids = ids_in_words(pairs, "device=cpu")
    for name, text in ids.items():
        # Where none has it, the first says what there is.
        for step in [step for step in steps if recipe.takes(step, name)] or steps[:1]:
            configuration = Configuration(recipe.files(step))
            configuration.check(name, text)
            if isinstance(configuration.content.get(name), bool):
                Switches(**{name: text})  # now, not when hours of training are over
    return ids


def _other_folds(
    options: argparse.Namespace, recipe: Recipe, trained: Mapping[str, Any], here: Sequence[int | None]
) -> dict[int, list[dict[str, Any]]]:
    if not options.folds:
        return {}
    others = read_other_folds(options.other_folds, trained, recipe.folds, here)
    if options.publish and recipe.fold not in (*here, *others):
        remedy = "have it among --folds, or in --other_folds"
        raise InputError("--publish", f"hands on the weights of fold {recipe.fold}", remedy)
    return others


def _cross_validate(
    results: Mapping[int, Trained],
    others: Mapping[int, Sequence[Mapping[str, Any]]],
    trained: Mapping[str, Any],
    output: Path,
) -> dict[str, Any]:
    folds = {fold: read_case_rows(done.evaluation.folder) for fold, done in results.items()}
    found = cross_validated({**others, **folds}, trained)
    parts = {f"fold {fold}": part for fold, part in found["folds"].items()} | found["groups"] | {"all folds": found}
    for where, part in parts.items():
        mean, spread = ("-" if part[name] is None else f"{part[name]:.4f}" for name in ("mean", "sd"))
        _line(f"{where}: {mean} ± {spread} over {part['subjects']} subjects ({part['cases']} cases)")
    for file in write_cross_validation(found, output):
        _line(f"wrote {file}")
    return found


def _line(text: str) -> None:
    print(text, flush=True)


def main(argv: Sequence[str] | None = None, run_bundle: RunBundle = wait_for) -> int:
    """Train, measure, and put in place what is asked for.

    Args:
        argv: the words behind ``python -m tools.train_release``.
        run_bundle: how a bundle is run; by default as a process of its own.

    Returns:
        The exit status.
    """
    options = _arguments(argv)
    try:
        recipe = Recipe.load(options.name)
        folds = _folds(options, recipe)
        ids = _ids(options.set, recipe)
        data, output = options.dataset_dir.resolve(), options.output.resolve()
        if not data.is_dir():
            raise InputError(options.dataset_dir, "is not a folder", "pass --dataset_dir with the data")
        trained = what_was_trained(recipe, ids)
        others = _other_folds(options, recipe, trained, folds)
        results: dict[int | None, Trained] = {}
        for fold in folds:
            run = output / f"fold_{fold}" if options.folds else output
            results[fold] = run_recipe(recipe, data, run, fold, ids, _line, run_bundle)
            _line(f"weights: {results[fold].weights}")
        found = _cross_validate(results, others, trained, output) if options.folds else None
        if options.publish:
            own = results.get(recipe.fold if options.folds else folds[0])
            for file in publish(recipe, own, found):
                _line(f"wrote {file}")
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from there", file=sys.stderr)
        return 130
    except Exception as error:
        print(error_line(error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Search hyperparameters of a bundle at random, each trial scored by cross-validation: ``python -m tools.search``.

As Rhee et al. did for the two stages of BESS: 10 trials, each trained once per fold and scored by the mean over the
folds. Which folds there are is the configuration's matter (``num_folds``). Every training is a process of its own and
says what it has to say in ``DIR/trial_000/fold_0.log``. A search that was interrupted goes on with the same command.

A training that fails makes its trial fail, and the next follows; where the first one fails before it begins (there are
no data, say), the search ends with its error. The exit status is 0 where a trial has a score, 1 after an error, which
is one line, and 130 on Ctrl-C.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from common.engines.packages import require_package
from common.errors import InputError
from tools.bundle_process import NotBegunError
from tools.search.configuration import Configuration

if TYPE_CHECKING:
    from tools.search.search import Search, Train


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.search", description=str(__doc__).splitlines()[0])
    files = {"metavar": "FILE[,FILE...]", "help": "a bundle's train.json, and what is laid over it"}
    parser.add_argument("--config_file", required=True, action="append", **files)
    parser.add_argument("--space", required=True, help="what is searched; see tools/search/bess_segmenter.json")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="trainings, tables, best.json")
    parser.add_argument("--score", required=True, metavar="COLUMN", help="of history.csv, such as val_mean_dice")
    parser.add_argument("--mode", required=True, choices=("max", "min"), help="which value of it is best")
    parser.add_argument("--trials", type=int, default=10, help="default: 10; more can be had later")
    parser.add_argument("--folds", help="such as 0,1,2; by default all that the configuration has")
    parser.add_argument("--seed", type=int, default=0, help="of the draw; default: 0")
    parser.add_argument("--set", action="append", default=[], metavar="ID=VALUE", help="change an id for all trainings")
    return parser.parse_args(argv)


def _folds(text: str | None, num_folds: Any) -> list[int]:
    """Return the folds that are asked for, by default all.

    Args:
        text: numbers with commas.
        num_folds: how many there are, or anything else where the configuration does not say.
    """
    count = int(num_folds) if re.fullmatch(r"\d+", str(num_folds)) else None
    if text is None and count is None:
        raise InputError("num_folds", "is no number in this configuration", "pass --folds, such as --folds 0,1,2")
    if text is None:
        return list(range(count))
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise InputError(f"--folds {text}", "are no numbers with commas", "pass some such as --folds 0,1,2")
    folds = [int(word) for word in text.split(",")]
    if len(set(folds)) < len(folds):
        raise InputError(f"--folds {text}", "has one twice", "pass each once")
    if count is not None and max(folds) >= count:
        raise InputError(f"--folds {text}", f"there is no fold {max(folds)}", f"the folds are 0 to {count - 1}")
    return folds


def _search(options: argparse.Namespace, train: Train | None) -> Search:
    """Check what can be checked before the first training."""
    import optuna

    from tools.search.search import Search
    from tools.search.space import Space

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if options.trials < 1:
        raise InputError(f"--trials {options.trials}", "is out of range", "it has to be 1 or more")
    if not 0 <= options.seed < 2**32:
        raise InputError(f"--seed {options.seed}", "is out of range", "it has to be from 0 to 4294967295")
    configuration = Configuration([file for files in options.config_file for file in files.split(",")])
    ids = configuration.checked_ids(options.set, "max_epochs=20")
    space = Space(options.space, configuration)
    if "num_folds" in space.content:
        raise InputError(f"{options.space}, num_folds", "is the same in all trials", "leave it out")
    if both := sorted(ids.keys() & space.content.keys()):
        raise InputError(f"--set {both[0]}", f"is searched in {options.space}", "leave it out of one of them")
    folds = _folds(options.folds, ids.get("num_folds", configuration.content.get("num_folds")))
    asked = (options.score, options.mode, options.trials, folds, options.seed)
    return Search(configuration, ids, space, options.output, *asked, *([train] if train else []))


def main(argv: Sequence[str] | None = None, train: Train | None = None) -> int:
    """Search, or go on with it, and print the table.

    Args:
        argv: the words behind ``python -m tools.search``.
        train: how a training is run; by default as a process of its own.

    Returns:
        The exit status.
    """
    options = _arguments(argv)
    try:
        require_package("optuna", "python -m tools.search")
        _search(options, train).run()
    except (InputError, NotBegunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with it", file=sys.stderr)
        return 130
    return 0


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)  # so that the training ends as well
    sys.exit(main())

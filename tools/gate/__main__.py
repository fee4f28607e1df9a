"""Choose the threshold of a two-stage pipeline's gate: ``python -m tools.gate --evaluation DIR``.

The gate decides on which frames the segmenter runs. A low threshold loses few of the frames in which there is
something, a high one leaves few false alarms; what each threshold does follows from what an evaluation kept of every
frame. The proposal is the largest threshold at which the wanted share of the positives passes. As other frames may do
worse, there is a conservative one too: the largest at which the lower bound of that share's 95 % confidence interval is
still the wanted one, if these frames are enough to show it.

Evaluate the validation part (--part validation): chosen on the test part, a threshold makes the scores there too good.

It writes gate.csv (a row for each threshold at which anything changes), gate.json (the proposals, with intervals and
conventions) and gate.png, and prints what the thresholds do side by side. The exit status is 1 after an error, which is
one line.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from common.data.atomic import write_csv, write_json
from common.errors import InputError
from common.metrics import Bootstrap
from common.visualize.curves import save_figure
from tools.gate.evaluation import read_evaluation
from tools.gate.picture import gate_figure
from tools.gate.proposal import Proposals, Proposer
from tools.gate.report import COLUMNS, plain_report, text_report, threshold_rows
from tools.gate.trade_off import TradeOff


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    about, _, details = str(__doc__).partition("\n")
    parser = argparse.ArgumentParser(
        "python -m tools.gate", description=about, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--evaluation", required=True, type=Path, metavar="DIR", help="output folder of evaluate.json")
    parser.add_argument(
        "--sensitivity", type=float, default=0.95, help="wanted share of the positives that pass; default: 0.95"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: gate/ in the evaluation's folder")
    parser.add_argument("--resample", choices=("images", "patients"), default="images", help="default: images")
    parser.add_argument("--samples", type=int, default=2000, help="resamples for the intervals; default: 2000")
    parser.add_argument("--seed", type=int, default=0, help="of the resamples; default: 0")
    return parser.parse_args(argv)


def _check(options: argparse.Namespace) -> None:
    if not 0 < options.sensitivity <= 1:
        raise InputError(f"--sensitivity {options.sensitivity:g}", "is out of range", "it has to be above 0, at most 1")
    if options.samples < 1:
        raise InputError(f"--samples {options.samples}", "is out of range", "it has to be 1 or more")
    if options.seed < 0:
        raise InputError(f"--seed {options.seed}", "is out of range", "it has to be 0 or more")


def _choose(options: argparse.Namespace) -> str:
    """Choose, write the files and return what is to be said."""
    _check(options)
    evaluated = read_evaluation(options.evaluation)
    results, trade_off = evaluated.results, TradeOff(evaluated.results)
    patients = results.patients if options.resample == "patients" else None
    bootstrap = Bootstrap(len(results), patients, options.samples, options.seed)
    proposals = Proposals.of(Proposer(trade_off, bootstrap), options.sensitivity)
    resampling = {name: getattr(options, name) for name in ("resample", "samples", "seed")}
    report = plain_report(evaluated, proposals, resampling)
    output = options.output or options.evaluation / "gate"
    write_csv(output / "gate.csv", threshold_rows(trade_off), COLUMNS)
    write_json(output / "gate.json", report)
    save_figure(output / "gate.png", gate_figure(trade_off, proposals))
    return f"{text_report(report, proposals)}\n\ngate.csv, gate.json and gate.png are in {output}"


def main(argv: Sequence[str] | None = None) -> int:
    """Choose a threshold and print what it does.

    Returns:
        The exit status.
    """
    options = _arguments(argv)
    try:
        print(_choose(options))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

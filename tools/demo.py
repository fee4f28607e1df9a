"""Segment phantoms with SAFNet's shipped weights: ``bash tools/demo.sh``; or train it on phantoms, with ``--train``.

Everything goes through ``python -m monai.bundle run``, with the commands that a user would type. What is there already
(phantoms, finished training) is used again. The shipped weights are only read: a training writes elsewhere.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from common.data import LabelScheme
from common.data.phantom import write_spine_phantoms
from tools.bundle_files import WEIGHTS

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "bundles" / "safnet"
CONFIGS = "bundles/safnet/configs"
LUMBAR = ("L1", "L2", "L3", "L4", "L5")
MEAN_DICE, LUMBAR_DICE = 0.5, 0.4
# Phantoms that no training has seen: neither the bundle's own (seed 0) nor those of the release (seed 7).
PHANTOMS, PHANTOM_SEED = 2, 3


def run(configs: list[str], **ids: object) -> None:
    """Run a bundle's configurations, laid over one another, and show what they print.

    Raises:
        SystemExit: the run failed; it has said why.
    """
    files = [f"{CONFIGS}/{name}.json" for name in configs]
    config_file = files[0] if len(files) == 1 else "[" + ",".join(f"'{name}'" for name in files) + "]"
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", config_file]
    for name, value in ids.items():
        command += [f"--{name}", str(value)]
    print("\n$ " + " ".join(["python", *command[1:3], *(f'"{w}"' if "'" in w or " " in w else w for w in command[3:])]))
    sys.stdout.flush()
    # MONAI warns at each start that configurations are code; these are the project's own.
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    if code := subprocess.run(command, cwd=ROOT, env=environment).returncode:
        sys.exit(code)


def train(output: Path, epochs: int | None) -> None:
    """Train, or go on with a training that was interrupted, or do nothing where it is finished."""
    state = output / "training_state.pt"
    ids: dict[str, object] = {"output_dir": output}
    if epochs is not None:
        ids["max_epochs"] = epochs
    if state.is_file():
        ids["resume"] = "true"
    run(["train", "demo"], **ids)


def volumes_of(segmentation: Path, case: str) -> dict[str, str]:
    """Return the volume of each structure that inference found in a case, in mL, as its table has it."""
    with open(segmentation / "volumes.csv", newline="", encoding="utf-8") as file:
        return {row["structure"]: row["volume_ml"] for row in csv.DictReader(file) if row["case"] == case}


def table(summary: dict[str, Any], volumes: dict[str, str], case: str) -> tuple[dict[str, float], float]:
    """Print Dice of all cases, and the volumes of one, for each structure.

    Returns:
        Mean Dice of each structure, and the mean over the cases.
    """
    print(f"\n{'structure':<10}{'Dice':>14}{'cases':>8}{'volume in ' + case:>28}")
    for name, row in summary["structures"].items():
        volume = f"{float(volumes[name]):.1f} mL" if name in volumes else "-"
        print(f"{name:<10}{row['mean']:>7.3f} ±{row['sd']:>5.3f}{row['cases']:>8}{volume:>28}")
    return {name: row["mean"] for name, row in summary["structures"].items()}, summary["dice"]["mean"]


def dice_of(labels: Path, segmentation: Path, cases: list[str]) -> dict[str, Any]:
    """Compare label maps with what was segmented, structure by structure.

    Args:
        labels: folder of the drawn ones, ``CASE.nii.gz``.
        segmentation: folder of the found ones, ``CASE_seg.nii.gz``.
        cases: which.

    Returns:
        ``structures``, ``mean``, ``sd`` and ``cases`` of the Dice by name, and ``dice``, the ``mean`` of the cases'
        means; of structures that are drawn.
    """
    scores: dict[str, list[float]] = {}
    means = []
    for case in cases:
        drawn, found = (
            np.asanyarray(nib.load(path).dataobj)
            for path in (labels / f"{case}.nii.gz", segmentation / f"{case}_seg.nii.gz")
        )
        own = []
        for structure in LabelScheme.load("mrspineseg17").structures:
            wanted, given = drawn == structure.value, found == structure.value
            if wanted.any():
                own.append(2 * float((wanted & given).sum()) / float(wanted.sum() + given.sum()))
                scores.setdefault(structure.name, []).append(own[-1])
        means.append(np.mean(own))
    rows = {name: {"mean": np.mean(of), "sd": np.std(of), "cases": len(of)} for name, of in scores.items()}
    return {"structures": rows, "dice": {"mean": float(np.mean(means))}}


def judge(structures: dict[str, float], mean: float, remedy: str) -> int:
    """Say whether the result is as good as the demo expects.

    Returns:
        The exit status: 0, or 1 after an error line.
    """
    weak = [name for name in LUMBAR if structures.get(name, 0.0) < LUMBAR_DICE]
    if mean >= MEAN_DICE and not weak:
        return 0
    found = ", ".join(f"{name} {structures.get(name, 0.0):.2f}" for name in weak)
    print(
        f"error: the demo expects mean Dice {MEAN_DICE} and {LUMBAR_DICE} for each of L1 to L5, "
        f"got {mean:.3f}{f' and {found}' if found else ''}; {remedy}",
        file=sys.stderr,
    )
    return 1


def segment_phantoms(output: Path) -> int:
    """Segment phantoms with the shipped weights.

    Returns:
        The exit status.
    """
    begin = time.monotonic()
    print("SAFNet's shipped weights on spine phantoms. With --train it is trained first, on a CPU up to 10 minutes.")
    phantoms, segmentation = output / "phantoms", output / "segment"
    write_spine_phantoms(phantoms, PHANTOMS, PHANTOM_SEED, report=print)
    run(["inference"], input=phantoms / "images", output_dir=segmentation)
    cases = sorted(path.name.removesuffix(".nii.gz") for path in (phantoms / "images").glob("*.nii.gz"))
    scores = dice_of(phantoms / "labels", segmentation, cases)
    structures, mean = table(scores, volumes_of(segmentation, cases[0]), cases[0])
    print(f"\nmean Dice on {len(cases)} phantoms: {mean:.3f}   ({time.monotonic() - begin:.0f} s in all)")
    print(f"overlay picture:     {segmentation / f'{cases[0]}_overlay.png'}")
    print(f"table of structures: {segmentation / 'volumes.csv'}")
    return judge(structures, mean, "restore bundles/safnet/models")


def train_and_segment(output: Path, max_epochs: int | None) -> int:
    """Train on phantoms, evaluate, and segment those that were held out.

    Returns:
        The exit status.
    """
    begin = time.monotonic()
    training, evaluation, segmentation = output / "train", output / "evaluate", output / "segment"
    print("SAFNet on spine phantoms: train, evaluate, segment. On 2 CPU cores this takes up to 10 minutes.")
    train(training, max_epochs)
    plan = json.loads((training / "model.json").read_text(encoding="utf-8"))
    checkpoint = training / "model.pt"
    run(["train", "demo", "evaluate"], checkpoint=checkpoint, part="test", output_dir=evaluation)

    split = json.loads((training / "split.json").read_text(encoding="utf-8"))
    heldout = output / "heldout"
    heldout.mkdir(exist_ok=True)
    for case in split["test"]:
        shutil.copy(Path(split["dataset_dir"]) / "images" / f"{case}.nii.gz", heldout)
    size = json.dumps(plan["spatial_size"]).replace(" ", "")
    run(["inference"], input=heldout, checkpoint=checkpoint, spatial_size=size, output_dir=segmentation)

    case = split["test"][0]
    summary = json.loads((evaluation / "summary.json").read_text(encoding="utf-8"))
    structures, mean = table(summary, volumes_of(segmentation, case), case)
    print(
        f"\nmean Dice on {len(split['test'])} held-out phantoms: {mean:.3f}   ({time.monotonic() - begin:.0f} s in all)"
    )
    print(f"overlay picture:     {segmentation / f'{case}_overlay.png'}")
    print(f"table of structures: {segmentation / 'volumes.csv'}")
    print(f"Dice of each case:   {evaluation / 'dice.csv'}")
    return judge(structures, mean, "run it again from the start with a longer --max_epochs")


def main(argv: list[str] | None = None) -> int:
    """Run the demo.

    Returns:
        0 if phantoms are segmented well enough, else 1.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--train", action="store_true", help="train first; without shipped weights this is done anyway")
    parser.add_argument("--output", type=Path, default=BUNDLE / "output" / "demo", help="where the results go")
    parser.add_argument("--max_epochs", type=int, default=None, help="length of the training (default: demo.json's)")
    arguments = parser.parse_args(argv)
    output = arguments.output.resolve()
    if arguments.train or arguments.max_epochs is not None or not (BUNDLE / WEIGHTS).is_file():
        return train_and_segment(output, arguments.max_epochs)
    return segment_phantoms(output / "shipped")


if __name__ == "__main__":
    sys.exit(main())

"""Train SAFNet on phantoms, evaluate it and segment held-out phantoms: ``bash tools/demo.sh``.

Everything goes through ``python -m monai.bundle run``, with the commands that a user would type. What is there already
(phantoms, finished training) is used again.
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

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "bundles" / "safnet"
CONFIGS = "bundles/safnet/configs"
LUMBAR = ("L1", "L2", "L3", "L4", "L5")
MEAN_DICE, LUMBAR_DICE = 0.5, 0.4


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


def table(evaluation: Path, segmentation: Path, case: str) -> tuple[dict[str, float], float]:
    """Print Dice of all held-out phantoms, and the volumes of one, for each structure.

    Returns:
        Mean Dice of each structure, and the mean over the cases.
    """
    summary = json.loads((evaluation / "summary.json").read_text(encoding="utf-8"))
    with open(segmentation / "volumes.csv", newline="", encoding="utf-8") as file:
        volumes = {row["structure"]: row["volume_ml"] for row in csv.DictReader(file) if row["case"] == case}
    print(f"\n{'structure':<10}{'Dice':>14}{'cases':>8}{'volume in ' + case:>28}")
    for name, row in summary["structures"].items():
        volume = f"{float(volumes[name]):.1f} mL" if name in volumes else "-"
        print(f"{name:<10}{row['mean']:>7.3f} ±{row['sd']:>5.3f}{row['cases']:>8}{volume:>28}")
    return {name: row["mean"] for name, row in summary["structures"].items()}, summary["dice"]["mean"]


def main(argv: list[str] | None = None) -> int:
    """Run the demo.

    Returns:
        0 if held-out phantoms are segmented well enough, else 1.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=BUNDLE / "output" / "demo", help="where the results go")
    parser.add_argument("--max_epochs", type=int, default=None, help="length of the training (default: demo.json's)")
    arguments = parser.parse_args(argv)
    begin = time.monotonic()
    output = arguments.output.resolve()
    training, evaluation, segmentation = output / "train", output / "evaluate", output / "segment"
    print("SAFNet on spine phantoms: train, evaluate, segment. On 2 CPU cores this takes up to 10 minutes.")
    train(training, arguments.max_epochs)
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
    structures, mean = table(evaluation, segmentation, case)
    print(
        f"\nmean Dice on {len(split['test'])} held-out phantoms: {mean:.3f}   ({time.monotonic() - begin:.0f} s in all)"
    )
    print(f"overlay picture:     {segmentation / f'{case}_overlay.png'}")
    print(f"table of structures: {segmentation / 'volumes.csv'}")
    print(f"Dice of each case:   {evaluation / 'dice.csv'}")
    weak = [name for name in LUMBAR if structures.get(name, 0.0) < LUMBAR_DICE]
    if mean < MEAN_DICE or weak:
        found = ", ".join(f"{name} {structures.get(name, 0.0):.2f}" for name in weak)
        print(
            f"error: the demo expects mean Dice {MEAN_DICE} and {LUMBAR_DICE} for each of L1 to L5, "
            f"got {mean:.3f}{f' and {found}' if found else ''}; run it again from the start with a longer --max_epochs",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

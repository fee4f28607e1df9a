from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from common.data.phantom import write_spine_phantoms
from tests.bundles.runs import ROOT
from tools.reproduce.__main__ import main
from tools.reproduce.runner import RECORD

MISTAKES = {
    "no data": (["safnet-comparison"], "safnet-comparison: needs a data set; pass --dataset_dir, or --quick"),
    "a folder that is not there": (
        ["safnet-comparison", "--dataset_dir", "missing"],
        "missing: is no folder; pass --dataset_dir with the data set's folder",
    ),
    "an empty folder": (["safnet-comparison", "--dataset_dir", "{empty}"], "{empty}: "),
    "phantoms and data": (
        ["safnet-comparison", "--quick", "--dataset_dir", "{empty}"],
        "--quick: runs on phantoms; leave out --quick or --dataset_dir",
    ),
    "no such fold": (
        ["safnet-comparison", "--quick", "--folds", "5"],
        "--folds 5: there is no fold 5; the folds are 0 to 4",
    ),
    "no folds": (["safnet-comparison", "--quick", "--folds", "a"], "--folds a: are no numbers with commas"),
    "no such row": (["funet-ablation", "--quick", "--models", "x"], "--models x: is no row of funet-ablation"),
    "no such overlay": (["funet-ablation", "--quick", "--overlay", "x.json"], "--overlay x.json: is not there"),
    "no such id": (["funet-ablation", "--quick", "--set", "lrr=1"], "--set lrr: is no id of any run of funet-ablation"),
    "no value": (["funet-ablation", "--quick", "--set", "lr"], "--set lr: is not of the form ID=VALUE"),
    "no such run": (["funet-ablation", "--quick", "--only", "x/fold_0/train"], "--only x/fold_0/train: is no run of"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake, tmp_path, capsys):
    words, line = MISTAKES[mistake]
    (tmp_path / "empty").mkdir()
    places = {"empty": tmp_path / "empty"}
    assert main([*(word.format(**places) for word in words), "--output", str(tmp_path / "out")]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("error: " + line.format(**places))
    assert not (tmp_path / "out").exists()


def test_an_unknown_table(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["safnet-comparisons"])
    assert ended.value.code != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "safnet-comparisons" in line and "safnet-comparison" in line


def test_the_list_of_runs_can_be_typed(tmp_path, capsys):
    words = [
        "safnet-comparison",
        "--dataset_dir",
        str(tmp_path),
        "--output",
        "out",
        "--models",
        "cfnet",
        "--folds",
        "3",
    ]
    assert main([*words, "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in lines[::2]] == [
        "cfnet/fold_3/train: not begun",
        "cfnet/fold_3/evaluate: not begun",
    ]
    command = shlex.split(lines[1])
    assert command[:4] == ["python", "-m", "monai.bundle", "run"]
    assert command[command.index("--output_dir") + 1] == "out/jobs/cfnet/fold_3/train"


def test_slurm_needs_no_data_yet(tmp_path, capsys):
    words = ["bess-two-stage", "--dataset_dir", str(tmp_path), "--slurm", "--folds", "0"]
    assert main(words) == 0
    script = capsys.readouterr().out
    assert "runs=(open/fold_0/train); exec python -m tools.reproduce bess-two-stage" in script
    assert "--slurm" not in script


@pytest.fixture
def phantoms(tmp_path) -> Path:
    write_spine_phantoms(tmp_path / "data", 10, 0)
    return tmp_path / "data"


TINY = ("spatial_size=[4,32,16]", "batch_size=2", "num_validation=1")


def test_a_failed_run_is_told_and_reported(phantoms, tmp_path, capsys):
    """CFNet does not take a grid that is no multiple of 16; SegResNet pads it."""
    words = ["safnet-comparison", "--dataset_dir", str(phantoms), "--output", str(tmp_path / "out"), "--folds", "0"]
    words += ["--models", "segresnet,cfnet", "--max_epochs", "1"]
    for pair in ("spatial_size=[4,24,16]", *TINY[1:]):
        words += ["--set", pair]
    assert main(words) == 1
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith("error: cfnet/fold_0/train: ValueError: CFNet expects an input") and "see " in line
    assert "2 of 4 runs are done" in out
    text = (tmp_path / "out" / "report" / "table.md").read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.startswith("| CFNet"))
    assert "failed" in row and "0.000" not in row, row
    assert "1 of 5 folds were run" in text and "shortened to 1 epochs" in text

    assert main([*words, "--resume", "--seed", "1"]) == 1
    assert "with other settings (1); pass the same, or another --output" in capsys.readouterr().err


def test_an_interrupted_training_goes_on(phantoms, tmp_path, capsys):
    """What is left of a run that was killed behind its first epoch: its state, and a record without an end."""
    words = ["safnet-ablation", "--dataset_dir", str(phantoms), "--output", str(tmp_path / "out"), "--folds", "0"]
    words += ["--models", "base", "--max_epochs"]
    for pair in TINY:
        words[-1:-1] = ["--set", pair]
    assert main([*words, "1", "--only", "base/fold_0/train"]) == 0
    record = tmp_path / "out" / "jobs" / "base" / "fold_0" / "train" / RECORD
    content = json.loads(record.read_text(encoding="utf-8"))
    content |= {"state": "unfinished", "seconds": None}
    content["words"][content["words"].index("--max_epochs") + 1] = "2"
    record.write_text(json.dumps(content), encoding="utf-8")
    capsys.readouterr()
    assert main([*words, "2", "--resume"]) == 0
    assert "base/fold_0/train: goes on" in capsys.readouterr().out
    epochs = (record.parent / "history.csv").read_text(encoding="utf-8").splitlines()
    assert len(epochs) == 3
    assert json.loads(record.read_text(encoding="utf-8"))["state"] == "done"


def test_a_list_whose_reader_has_seen_enough(tmp_path):
    """As ``--list | head -1``: no traceback."""
    words = [sys.executable, "-m", "tools.reproduce", "bess-cost", "--output", str(tmp_path), "--list"]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait() == 0

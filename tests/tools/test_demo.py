from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tools import demo

NAMES = ("S", "L5", "L4", "L3", "L2", "L1")


class Runs:
    """Stands for the runs of the bundle: writes what they would, and keeps what they were called with."""

    def __init__(self, data: Path, dice: dict[str, float], mean: float) -> None:
        self.data, self.dice, self.mean, self.calls = data, dice, mean, []

    def __call__(self, configs: list[str], **ids: object) -> None:
        self.calls.append((configs, ids))
        output = Path(str(ids["output_dir"]))
        output.mkdir(parents=True, exist_ok=True)
        if configs[-1] == "demo":
            (output / "model.pt").write_bytes(b"")
            (output / "training_state.pt").write_bytes(b"")
            (output / "model.json").write_text(json.dumps({"spatial_size": [12, 96, 48]}), encoding="utf-8")
            split = {"dataset_dir": str(self.data), "test": ["p1", "p2"], "train": ["p3"], "validation": ["p4"]}
            (output / "split.json").write_text(json.dumps(split), encoding="utf-8")
        elif configs[-1] == "evaluate":
            rows = {name: {"mean": value, "sd": 0.05, "cases": 2} for name, value in self.dice.items()}
            (output / "summary.json").write_text(
                json.dumps({"structures": rows, "dice": {"mean": self.mean}}), encoding="utf-8"
            )
        else:
            with open(output / "volumes.csv", "w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["case", "structure", "volume_ml"])
                writer.writerows([["p1", "L4", "31.25"], ["p2", "L5", "99.5"]])


@pytest.fixture
def data(tmp_path) -> Path:
    (tmp_path / "data" / "images").mkdir(parents=True)
    for name in ("p1", "p2", "p3", "p4"):
        (tmp_path / "data" / "images" / f"{name}.nii.gz").write_text(name, encoding="utf-8")
    return tmp_path / "data"


@pytest.fixture
def play(data, tmp_path, monkeypatch):
    """Run the demo with these results; return its status and the runs."""

    def play(dice: dict[str, float] | None = None, mean: float = 0.8, *arguments: str) -> tuple[int, Runs]:
        runs = Runs(data, dict.fromkeys(NAMES, 0.8) | (dice or {}), mean)
        monkeypatch.setattr(demo, "run", runs)
        return demo.main(["--train", "--output", str(tmp_path / "out"), *arguments]), runs

    return play


def test_good_enough(play, capsys):
    status, _ = play()
    out, err = capsys.readouterr()
    assert status == 0 and err == ""
    assert "mean Dice on 2 held-out phantoms: 0.800" in out
    assert "31.2 mL" in out or "31.3 mL" in out  # L4 of the first held-out case ...
    assert "99.5" not in out  # ... and not the second's L5


@pytest.mark.parametrize(
    ("dice", "mean", "named"),
    [({}, 0.499, []), ({"L3": 0.39}, 0.8, ["L3 0.39"]), ({"L1": 0.1, "L5": 0.2}, 0.3, ["L1 0.10", "L5 0.20"])],
)
def test_too_low(play, capsys, dice, mean, named):
    status, _ = play(dice, mean)
    err = capsys.readouterr().err
    assert status == 1
    assert err.startswith("error: the demo expects mean Dice") and len(err.splitlines()) == 1
    assert f"got {mean:.3f}" in err and "--max_epochs" in err
    for text in named:
        assert text in err
    assert "L4" not in err and "L2 " not in err


def test_a_lumbar_vertebra_that_nothing_found(play, data, tmp_path, monkeypatch, capsys):
    runs = Runs(data, dict.fromkeys(NAMES[:-1], 0.9), 0.9)
    monkeypatch.setattr(demo, "run", runs)
    assert demo.main(["--train", "--output", str(tmp_path / "out")]) == 1
    assert "L1 0.00" in capsys.readouterr().err


def test_only_lumbar_vertebrae_have_a_bound_of_their_own(play):
    assert play({"S": 0.0})[0] == 0


def test_the_runs_fit_together(play, tmp_path):
    _, runs = play(None, 0.8, "--max_epochs", "3")
    (train, train_ids), (evaluate, evaluate_ids), (infer, infer_ids) = runs.calls
    assert (train, evaluate, infer) == (["train", "demo"], ["train", "demo", "evaluate"], ["inference"])
    assert train_ids["max_epochs"] == 3 and "resume" not in train_ids
    weights = Path(train_ids["output_dir"]) / "model.pt"
    assert evaluate_ids["checkpoint"] == infer_ids["checkpoint"] == weights
    assert infer_ids["spatial_size"] == "[12,96,48]"  # what the weights were trained with
    assert evaluate_ids["part"] == "test"
    # Only held-out phantoms are segmented.
    assert {path.name for path in Path(infer_ids["input"]).iterdir()} == {"p1.nii.gz", "p2.nii.gz"}


def test_a_second_demo_goes_on_with_its_training(play):
    play()
    _, runs = play()
    assert runs.calls[0][1]["resume"] == "true"


def test_a_run_that_fails_ends_the_demo(monkeypatch, tmp_path):
    class Failed:
        returncode = 3

    monkeypatch.setattr(demo.subprocess, "run", lambda *args, **kwargs: Failed())
    with pytest.raises(SystemExit) as ended:
        demo.main(["--train", "--output", str(tmp_path / "out")])
    assert ended.value.code == 3


class TestShippedWeights:
    @pytest.fixture
    def bundle(self, tmp_path, monkeypatch) -> Path:
        (tmp_path / "bundle" / "models").mkdir(parents=True)
        (tmp_path / "bundle" / "models" / "model.pt").write_bytes(b"weights")
        monkeypatch.setattr(demo, "BUNDLE", tmp_path / "bundle")
        return tmp_path / "bundle"

    @pytest.fixture
    def segment(self, bundle, tmp_path, monkeypatch):
        """Run the demo with an inference that finds what is drawn, but for structures that it leaves out."""
        calls = []

        def segment(left_out: int = 0, *arguments: str) -> tuple[int, list]:
            def run(configs: list[str], **ids: object) -> None:
                calls.append((configs, ids))
                output = Path(str(ids["output_dir"]))
                output.mkdir(parents=True, exist_ok=True)
                for image in Path(str(ids["input"])).iterdir():
                    drawn = nib.load(image.parent.with_name("labels") / image.name)
                    found = np.asanyarray(drawn.dataobj).copy()
                    found[found == left_out] = 0
                    name = image.name.replace(".nii.gz", "_seg.nii.gz")
                    nib.save(nib.Nifti1Image(found, drawn.affine), output / name)
                (output / "volumes.csv").write_text(
                    "case,structure,volume_ml\nphantom_000,L4,31.25\n", encoding="utf-8"
                )

            monkeypatch.setattr(demo, "run", run)
            monkeypatch.setattr(demo, "PHANTOMS", 1)
            return demo.main(["--output", str(tmp_path / "out"), *arguments]), calls

        return segment

    def test_they_segment_phantoms_and_stay_as_they_are(self, segment, bundle, capsys):
        status, calls = segment()
        out, err = capsys.readouterr()
        assert status == 0 and not err
        assert "mean Dice on 1 phantoms: 1.000" in out and "31.2 mL" in out
        ((configs, ids),) = calls
        assert configs == ["inference"] and "checkpoint" not in ids  # the bundle's own
        assert (bundle / "models" / "model.pt").read_bytes() == b"weights"

    def test_what_they_do_not_find(self, segment, capsys):
        assert segment(3)[0] == 1
        line = capsys.readouterr().err
        assert line.startswith("error: the demo expects") and "L4 0.00" in line and line.count("\n") == 1

    def test_training_is_asked_for(self, bundle, play):
        _, runs = play()
        assert runs.calls[0][0] == ["train", "demo"]
        assert (bundle / "models" / "model.pt").read_bytes() == b"weights"

"""FUnet's recipe as it stands, with a small network on a few small frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.bundles.clip_bundle_tests import SEQUENCES
from tests.bundles.runs import read_csv, read_json
from tests.bundles.video_bundle_tests import write_sequences
from tools.bundle_process import TrainingError
from tools.train_release import __main__ as program

IDS = {"spatial_size": "[32,48]", "frames": 3, "unet_features": "[8,16]", "max_epochs": 1, "precision": "fp32"}
IDS |= {"training_starts": "all"}  # the sequences are short


def test_frames_then_clips_and_the_better_of_both(launch, tmp_path, capsys):
    data, output = write_sequences(tmp_path / "data", SEQUENCES), tmp_path / "run"
    begun: dict[str, Sequence[str]] = {}

    def run_bundle(command: Sequence[str], log: Path) -> None:
        begun[log.stem] = command
        done = launch(*command[2:], cwd=tmp_path)
        if done.status:
            raise TrainingError(done.err)

    given = ["funet", "--dataset_dir", str(data), "--output", str(output)]
    given += [word for name, value in IDS.items() for word in ("--set", f"{name}={value}")]
    assert program.main(given, run_bundle) == 0, capsys.readouterr().err
    stages = ("frames", "clips")
    assert list(begun) == [*stages, "evaluation_frames", "evaluation_clips", "evaluation_half"]
    assert [read_json(output / stage / "split.json")["frames"] for stage in stages] == [1, 3]
    assert f"--init_checkpoint {output / 'frames' / 'model_last.pt'}" in " ".join(begun["clips"])
    for stage in stages:
        (row,) = read_csv(output / stage / "history.csv")
        assert float(row["loss"]) > 0

    summaries = {stage: read_json(output / f"evaluation_{stage}" / "summary.json") for stage in ("frames", "clips")}
    scores = {stage: summary["Dice"] for stage, summary in summaries.items()}
    better = "frames" if scores["frames"] >= scores["clips"] else "clips"
    assert f"clips/model_last.pt {scores['clips']:.4f}: {better}/model_last.pt is used" in capsys.readouterr().out
    settings = {"frames": {"frame_weights": False}, "clips": {}}
    plan = read_json(output / "half" / "model.json")
    assert plan == read_json(output / better / "model_last.json") | settings[better]

"""A training that is killed at any moment ends as if it had not been."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from tests.bundles.runs import ROOT, content_of, equal, words

BUNDLE = ROOT / "bundles" / "safnet"
IDS = {"spatial_size": "[4,32,16]", "precision": "fp32", "num_folds": 3, "num_validation": 1, "batch_size": 2}
EPOCHS = 6


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_twice_and_resumed(workers, dataset, scratch):
    def start(name: str, resume: bool = False) -> subprocess.Popen:
        ids = {
            **IDS,
            "dataset_dir": dataset,
            "num_workers": workers,
            "max_epochs": EPOCHS,
            "output_dir": scratch / name,
        }
        ids |= {"resume": "true"} if resume else {}
        command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", BUNDLE / "configs" / "train.json"]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        return subprocess.Popen(
            [*map(str, command), *words({"bundle_root": BUNDLE} | ids)],
            cwd=scratch, env=environment, stdout=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def kill_after(process: subprocess.Popen, epoch: int) -> None:
        """Kill the process and its workers when that epoch is in the history: while it is saved, or soon after."""
        history = scratch / "killed" / "history.csv"
        while process.poll() is None:
            if history.is_file() and history.read_text(encoding="utf-8").count("\n") > epoch:
                break
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    assert start("whole").wait() == 0
    kill_after(start("killed"), epoch=2)
    kill_after(start("killed", resume=True), epoch=4)
    assert start("killed", resume=True).wait() == 0

    whole, killed = content_of(scratch / "whole"), content_of(scratch / "killed")
    assert whole.keys() == killed.keys()
    assert whole["history.csv"].count(b"\n") == EPOCHS + 1
    for name in set(whole) - {"log.txt", "provenance.json", "training_state.pt"}:  # two of them tell the time
        assert whole[name] == killed[name], name
    # its pickle may share equal strings or not: what it holds counts
    states = [torch.load(scratch / name / "training_state.pt", weights_only=True) for name in ("whole", "killed")]
    assert equal(*states)

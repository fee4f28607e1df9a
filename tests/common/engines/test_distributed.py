from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from common.engines import join_ranks
from common.errors import InputError
from tests.common.engines import rank_worker

ROOT = Path(__file__).resolve().parents[3]
RANKS = 2


@pytest.fixture(scope="module", params=[("instance", 0.0), ("instance", 1.0), ("batch", 1.0)], ids=str)
def run(request, tmp_path_factory):
    """What two processes found, each with half of the batch, and the settings."""
    norm, dice_weight = request.param
    out = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={RANKS}"]
    command += ["-m", "tests.common.engines.rank_worker", str(out), norm, str(dice_weight)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=300)
    return [torch.load(out / f"rank{rank}.pt", weights_only=True) for rank in range(RANKS)], norm, dice_weight


def test_gradients_are_those_of_one_process(run):
    found, norm, dice_weight = run
    wanted = rank_worker.gradients(rank_worker.network(norm), slice(None), dice_weight)
    assert any(gradient.abs().max() > 1e-3 for gradient in wanted.values())
    for rank in found:
        for name, gradient in wanted.items():
            torch.testing.assert_close(rank["gradients"][name], gradient, rtol=0, atol=1e-5, msg=name)


def test_parameters_stay_equal(run):
    found, norm, _ = run
    begin = dict(rank_worker.network(norm).named_parameters())
    assert any(not torch.equal(begin[name], value) for name, value in found[0]["parameters"].items())
    for name, value in found[0]["parameters"].items():
        assert torch.equal(value, found[1]["parameters"][name]), name


def test_no_thread_outlives_the_group(run):
    for rank in run[0]:
        before, after = rank["threads"]
        if before is None:
            pytest.skip("the system does not list a process's threads")
        assert before > 0
        assert after == 0


def test_one_process_alone_is_refused(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(InputError, match=r"^multi_gpu: needs several processes; start it with torchrun"):
        join_ranks()

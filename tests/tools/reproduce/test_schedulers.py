from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from common.errors import InputError
from tests.tools.reproduce.made_up import as_plan, fails, writes
from tools.reproduce.runner import Runner
from tools.reproduce.schedulers import run_with_ray, slurm_script


def plan(tmp_path: Path):
    return as_plan(
        [
            writes(tmp_path, "a/fold_0/train"), writes(tmp_path, "a/fold_0/evaluate", ["a/fold_0/train"]),
            fails(tmp_path, "b/fold_0/train"), writes(tmp_path, "b/fold_0/evaluate", ["b/fold_0/train"]),
        ]
    )  # fmt: skip


SBATCH = """#!/usr/bin/env bash
printf '%s\\n' "$*" >> "$LOG"
for word in "$@"; do case $word in
  --array=0-*) last=${word#--array=0-};;
  --wrap=*) run=${word#--wrap=};;
esac; done
for ((i = 0; i <= ${last:-0}; i++)); do SLURM_ARRAY_TASK_ID=$i bash -c "$run"; done
echo $(($(wc -l < "$LOG") + 100))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a script for bash")
def test_slurms_script_submits_each_run_behind_what_it_needs(tmp_path):
    """Run by a stand-in for sbatch, which runs each task at once; a stand-in for Python writes its words down."""
    (tmp_path / "bin").mkdir()
    for name, text in {"sbatch": SBATCH, "python": 'printf "%s\\n" "$*" >> "$RUNS"\n'}.items():
        file = tmp_path / "bin" / name
        file.write_text(text if text.startswith("#!") else "#!/usr/bin/env bash\n" + text, encoding="utf-8")
        file.chmod(0o755)
    script = slurm_script(plan(tmp_path), ["safnet-comparison", "--dataset_dir", "my data"], gpus=2)
    (tmp_path / "submit.sh").write_text(script, encoding="utf-8")
    logs = {name: tmp_path / f"{name}.txt" for name in ("LOG", "RUNS")}
    environment = os.environ | {name: str(path) for name, path in logs.items()}
    environment |= {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "OPTIONS": "--partition=gpu"}
    done = subprocess.run(
        ["bash", tmp_path / "submit.sh"], env=environment, capture_output=True, encoding="utf-8", check=True
    )
    submitted = logs["LOG"].read_text(encoding="utf-8").splitlines()
    assert len(submitted) == 3 and all("--partition=gpu" in line for line in submitted)
    assert "--gres=gpu:2 --array=0-1" in submitted[0] and "--dependency" not in submitted[0]
    assert "--dependency=afterany:101" in submitted[1] and "--dependency=afterany:102" in submitted[2]
    common = "-m tools.reproduce safnet-comparison --dataset_dir my data --resume"
    assert logs["RUNS"].read_text(encoding="utf-8").splitlines() == [
        f"{common} --only a/fold_0/train", f"{common} --only b/fold_0/train",
        f"{common} --only a/fold_0/evaluate", f"{common} --only b/fold_0/evaluate", f"{common} --report",
    ]  # fmt: skip
    assert done.stdout == "the report will be written by job 103\n"


class Ray(types.ModuleType):
    """As much of Ray as is used; a task runs when its result is asked for."""

    def __init__(self, gpus: float = 0) -> None:
        super().__init__("ray")
        self.gpus, self.asked = gpus, []

    def init(self, ignore_reinit_error: bool) -> None:
        if self.gpus < 0:
            raise ConnectionError("nobody there")

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 4.0} | ({"GPU": self.gpus} if self.gpus else {})

    def remote(self, function):
        ray = self

        class Task:
            def options(self, **options):
                ray.asked.append(options)
                return self

            def remote(self, *arguments):
                return [None, function, arguments]

        return Task()

    def get(self, results):
        for result in results:
            if result[0] is None:
                key, *before = result[2]
                result[0] = result[1](key, *self.get(before))
        return [result[0] for result in results]


@pytest.mark.parametrize("gpus", [0, 8])
def test_ray_runs_all_that_can_be_run(tmp_path, monkeypatch, gpus):
    ray = Ray(gpus)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr("tools.reproduce.schedulers.require_package", lambda *words: None)
    jobs = plan(tmp_path)
    assert run_with_ray(Runner(jobs, say=lambda line: None), [], gpus=2) == ["b/fold_0/train", "b/fold_0/evaluate"]
    assert (tmp_path / "a_fold_0_evaluate").is_file() and not (tmp_path / "b_fold_0_evaluate").exists()
    assert ray.asked == [{"max_retries": 0} | ({"num_gpus": 2} if gpus else {})]


def test_no_cluster(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", Ray(-1))
    monkeypatch.setattr("tools.reproduce.schedulers.require_package", lambda *words: None)
    with pytest.raises(InputError, match=r"--ray: no cluster can be reached \(nobody there\); start one"):
        run_with_ray(Runner(plan(tmp_path)), [], gpus=1)


def test_no_ray(tmp_path):
    try:
        import ray  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match="ray"):
            run_with_ray(Runner(plan(tmp_path)), [], gpus=1)
    else:
        pytest.skip("ray is installed")

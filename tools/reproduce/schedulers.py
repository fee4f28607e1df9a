"""Hand a table's runs to the schedulers that people have: SLURM by a script, Ray as a package."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from common.engines.packages import require_package
from common.errors import InputError
from tools.reproduce.plan import PlannedJob
from tools.reproduce.runner import Runner

__all__ = ["run_with_ray", "slurm_script"]


def _levels(jobs: Mapping[str, PlannedJob]) -> list[list[str]]:
    """Return the runs in groups, each of which needs only those before."""
    level: dict[str, int] = {}
    for key, job in jobs.items():  # a run stands behind those that it needs
        level[key] = 1 + max((level[need] for need in job.needs), default=-1)
    return [[key for key in jobs if level[key] == at] for at in range(max(level.values(), default=-1) + 1)]


def slurm_script(jobs: Mapping[str, PlannedJob], arguments: Sequence[str], gpus: int) -> str:
    """Return a script that submits an array for each group of runs, which starts when the group before has ended.

    Args:
        jobs: the plan.
        arguments: of ``python -m tools.reproduce``, as they were typed, without ``--slurm``.
        gpus: of each training.
    """
    command = shlex.join(["python", "-m", "tools.reproduce", *arguments, "--resume"])
    lines = [
        "#!/usr/bin/env bash",
        "# Run this in the repository's root with its environment active; it submits one array after the other.",
        '# What your cluster wants (account, partition, time) goes into OPTIONS="--partition=gpu --time=24:00:00".',
        "set -euo pipefail",
        "after=",
    ]
    submit = "after=$(sbatch --parsable ${OPTIONS:-} ${after:+--dependency=afterany:$after}"
    for keys in _levels(jobs):
        names = " ".join(shlex.quote(key) for key in keys)
        run = f'runs=({names}); exec {command} --only "${{runs[$SLURM_ARRAY_TASK_ID]}}"'
        lines.append(f"{submit} --gres=gpu:{gpus} --array=0-{len(keys) - 1} --wrap={shlex.quote(run)})")
    lines.append(f"{submit} --wrap={shlex.quote(command + ' --report')})")
    lines.append('echo "the report will be written by job $after"')
    return "\n".join(lines) + "\n"


def run_with_ray(runner: Runner, only: Sequence[str], gpus: int) -> list[str]:
    """Run a table's jobs as tasks of Ray, which places them; the machines share the table's folder.

    Args:
        runner: of the jobs.
        only: keys; by default all.
        gpus: of each training, where the cluster has any.

    Returns:
        The keys of those that failed or wait for one that did.

    Raises:
        InputError: the package ray is missing, or there is no cluster.
    """
    require_package("ray", "python -m tools.reproduce --ray")
    import ray

    try:
        ray.init(ignore_reinit_error=True)
    except Exception as error:
        raise InputError(
            "--ray", f"no cluster can be reached ({error})", "start one with `ray start --head`"
        ) from error
    resources = {"num_gpus": gpus} if ray.cluster_resources().get("GPU") else {}
    jobs = runner.jobs

    def work(key: str, *before: bool) -> bool:
        if not all(before):
            return False
        # Ray hides the cards that are not this task's; all that are left are for it.
        return Runner({key: jobs[key]}, say=lambda line: print(line, flush=True)).run(key)

    task = ray.remote(work).options(max_retries=0, **resources)
    wanted = [key for key in only or jobs if not runner.is_done(key)]
    results: dict[str, object] = {}
    for key in wanted:
        before = [results[need] for need in jobs[key].needs if need in results]
        if all(need in results or runner.is_done(need) for need in jobs[key].needs):
            results[key] = task.remote(key, *before)
    ended = dict(zip(results, ray.get(list(results.values())), strict=True))
    return [key for key in wanted if not ended.get(key)]

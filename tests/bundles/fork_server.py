"""Run ``python -m monai.bundle`` again and again in processes of their own, without importing MONAI each time.

Reads jobs from standard input, one JSON a line, and answers each with its exit status. A job is a fork of this process:
it has its own standard streams, folder and exit status, and an error ends it through ``sys.excepthook`` as usual.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import runpy
import sys

import av  # noqa: F401
import ignite.engine  # noqa: F401
import monai.bundle
import monai.engines
import monai.handlers  # noqa: F401
import nibabel  # noqa: F401
import SimpleITK  # noqa: F401
import torch._dynamo  # noqa: F401  (the first optimiser of a process would import it)


def become(job: dict) -> None:
    """Turn into the process that the job describes, and run it."""
    os.chdir(job["cwd"])
    for number, name, mode in (
        (0, os.devnull, os.O_RDONLY),
        (1, job["out"], os.O_WRONLY),
        (2, job["err"], os.O_WRONLY),
    ):
        os.dup2(os.open(name, mode | os.O_CREAT, 0o644), number)
    os.environ.update(job["environment"])
    if job["largest_file"] is not None:  # no file may grow beyond: what a full disk is to a writer
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest_file"], job["largest_file"]))
    sys.argv = ["monai.bundle", *job["arguments"]]
    sys.path[0] = job["cwd"]  # as `python -m` has it
    runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    gc.freeze()  # what is imported lives as long as each process; else its end takes longer than a small run
    print("ready", flush=True)
    while line := sys.stdin.readline():
        child = os.fork()
        if child == 0:
            become(json.loads(line))
            break
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)

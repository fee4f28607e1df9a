"""Run what a table needs: beside each other as far as asked for, again where it failed, on where it was interrupted."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch

from common.data.atomic import write_json
from tools.benchmark.machine import cores, describe_machine
from tools.bundle_process import TrainingError, wait_for
from tools.folder_lock import undisturbed
from tools.reproduce.plan import PlannedJob

__all__ = ["RECORD", "Runner", "read_record"]

RECORD = "job.json"
LOG = "job.log"


def read_record(folder: Path) -> dict[str, Any]:
    """Return what is known of a run: ``state``, ``seconds``, ``machine``, ``error``; empty where it never began."""
    try:
        return json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def machine_name() -> str:
    """Return what runs happen on: graphics card, or processor and threads."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    about = describe_machine(torch.device("cpu"), None)
    threads = os.environ.get("OMP_NUM_THREADS") or about["cores"]
    return f"{about['cpu']}, {threads} thread{'' if str(threads) == '1' else 's'}"


class Runner:
    """Runs jobs in processes of their own.

    A run is recorded in its folder. One that is done is not run again; one that failed is, and a training that was
    interrupted goes on. Several runners, also on several machines that share the folder, may work on the same table:
    each run is locked while somebody works on it.

    Args:
        jobs: the plan.
        parallel: how many at once.
        processes: GPUs of each training.
        say: is told what happens, a line each.
    """

    def __init__(
        self,
        jobs: Mapping[str, PlannedJob],
        parallel: int = 1,
        processes: int = 1,
        say: Callable[[str], None] = lambda line: print(line, flush=True),
    ) -> None:
        self.jobs, self.parallel, self.say = jobs, parallel, say
        self.running: set[subprocess.Popen] = set()
        self.stopped = threading.Event()
        self.devices: queue.SimpleQueue[str] | None = None
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count:
            self.devices = queue.SimpleQueue()
            for slot in range(parallel):
                devices = [str((slot * processes + i) % count) for i in range(processes)]
                self.devices.put(",".join(devices))

    def __call__(self, only: Sequence[str] = ()) -> list[str]:
        """Run what is not done.

        Args:
            only: keys; by default all.

        Returns:
            The keys of those that failed.

        Raises:
            KeyboardInterrupt: the user stopped it; the runs under way were stopped, too.
        """
        left = [key for key in only or self.jobs if not self.is_done(key)]
        failed: list[str] = []
        with ThreadPoolExecutor(self.parallel) as pool:
            under_way: dict[Future, str] = {}
            try:
                while left or under_way:
                    ready = [key for key in left if all(self.is_done(need) for need in self.jobs[key].needs)]
                    for key in ready[: self.parallel - len(under_way)]:
                        left.remove(key)
                        under_way[pool.submit(self.run, key)] = key
                    if not under_way:
                        break  # what is left waits for something that failed, or that nobody asked for
                    for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                        key = under_way.pop(future)
                        if not future.result():
                            failed.append(key)
            except BaseException:
                self.stopped.set()
                for process in list(self.running):
                    process.terminate()
                raise
        for key in left:
            needs = [need for need in self.jobs[key].needs if not self.is_done(need)]
            self.say(f"{key}: waits for {needs[0]}, which is not done")
        return failed

    def is_done(self, key: str) -> bool:
        """Tell whether a run is done."""
        return read_record(self.jobs[key].folder).get("state") == "done"

    def run(self, key: str) -> bool:
        """Run one, unless somebody else has done it meanwhile.

        Returns:
            Whether it is done.
        """
        job = self.jobs[key]
        job.folder.mkdir(parents=True, exist_ok=True)
        with undisturbed(job.folder) as lock:
            if self.is_done(key):
                return True
            if self.stopped.is_set():
                return False
            before = read_record(job.folder)
            words, begun = job.resuming(), time.monotonic()
            record = {"key": key, "words": words, "machine": machine_name()}
            # As long as this stands there, a run that was killed has an unknown time.
            earlier = before.get("seconds", None if before else 0.0)
            write_json(job.folder / RECORD, record | {"state": "unfinished", "seconds": None})
            self.say(f"{key}: {'goes on' if words != list(job.words) else 'begins'}")
            device = self.devices.get() if self.devices is not None else None
            error, state = "", "done"
            try:
                wait_for(words, job.folder / LOG, lock, self._environment(device), self._started)
            except TrainingError as reason:
                error, state = str(reason), "failed"
            except KeyboardInterrupt:
                error, state = "it was stopped", "unfinished"
            finally:
                if self.devices is not None and device is not None:
                    self.devices.put(device)
            if self.stopped.is_set() and state == "failed":
                error, state = "it was stopped", "unfinished"
            seconds = None if earlier is None else round(earlier + time.monotonic() - begun, 3)
            write_json(job.folder / RECORD, record | {"state": state, "seconds": seconds, "error": error})
        self.say(
            f"{key}: {state}"
            + (f" in {seconds:.0f} s" if state == "done" and seconds else "")
            + f"{error and ': '}{error}"
        )
        return state == "done"

    def _started(self, process: subprocess.Popen) -> None:
        self.running = {other for other in self.running if other.poll() is None} | {process}
        if self.stopped.is_set():
            process.terminate()

    def _environment(self, device: str | None) -> dict[str, str]:
        environment = dict(os.environ)
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        elif self.parallel > 1:
            environment.setdefault("OMP_NUM_THREADS", str(max(1, cores() // self.parallel)))
        return environment

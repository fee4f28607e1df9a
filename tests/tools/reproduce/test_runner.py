from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.tools.reproduce.made_up import as_plan, fails, job, writes
from tools.reproduce.runner import RECORD, Runner, read_record

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def said() -> list[str]:
    return []


def test_in_the_order_of_their_needs(tmp_path, said):
    check = "import pathlib, sys; sys.exit(not pathlib.Path(sys.argv[1]).is_file())"
    first = writes(tmp_path, "a/fold_0/train")
    second = job(
        tmp_path, "a/fold_0/evaluate", ["-c", check, str(tmp_path / "a_fold_0_train")], needs=["a/fold_0/train"]
    )
    runner = Runner(as_plan([second, first]), say=said.append)
    assert runner() == []
    assert [line.split(":")[0] for line in said] == ["a/fold_0/train"] * 2 + ["a/fold_0/evaluate"] * 2
    record = read_record(second.folder)
    assert record["state"] == "done" and record["seconds"] > 0 and record["words"] == list(second.words)
    assert record["machine"]


def test_what_is_done_is_not_done_again(tmp_path, said):
    jobs = as_plan([writes(tmp_path, "a/single/train")])
    Runner(jobs, say=said.append)()
    (tmp_path / "a_single_train").unlink()
    assert Runner(jobs, say=said.append)() == []
    assert not (tmp_path / "a_single_train").exists() and len(said) == 2


def test_a_failure_is_told_and_the_rest_goes_on(tmp_path, said):
    jobs = as_plan(
        [fails(tmp_path, "a/single/train"), writes(tmp_path, "a/single/evaluate", ["a/single/train"]),
         writes(tmp_path, "b/single/train")]
    )  # fmt: skip
    assert Runner(jobs, say=said.append)() == ["a/single/train"]
    assert "a/single/train: failed: data: are odd; mend them" in said
    assert "a/single/evaluate: waits for a/single/train, which is not done" in said
    assert (tmp_path / "b_single_train").is_file()
    assert read_record(jobs["a/single/train"].folder)["error"] == "data: are odd; mend them"
    assert read_record(jobs["a/single/evaluate"].folder) == {}


def test_a_failed_run_is_tried_again(tmp_path, said):
    flaky = "import pathlib, sys; p = pathlib.Path(sys.argv[1]); there = p.exists(); p.touch(); sys.exit(not there)"
    jobs = as_plan([job(tmp_path, "a/single/train", ["-c", flaky, str(tmp_path / "x")])])
    assert Runner(jobs, say=said.append)() == ["a/single/train"]
    assert Runner(jobs, say=said.append)() == []
    assert read_record(jobs["a/single/train"].folder)["state"] == "done"


def test_several_at_once(tmp_path, said):
    """Each waits for the other's file."""
    meet = (
        "import pathlib, sys, time\npathlib.Path(sys.argv[1]).touch()\n"
        "while not pathlib.Path(sys.argv[2]).exists(): time.sleep(0.01)"
    )
    files = [str(tmp_path / "one"), str(tmp_path / "two")]
    jobs = [
        job(tmp_path, f"{name}/single/train", ["-c", meet, *order])
        for name, order in zip("ab", (files, files[::-1]), strict=True)
    ]
    assert Runner(as_plan(jobs), parallel=2, say=said.append)() == []


def test_two_runners_share_the_work(tmp_path, said):
    """A run is made once, by whoever comes first."""
    add = "import sys, time; time.sleep(0.3); open(sys.argv[1], 'a', encoding='utf-8').write('x')"
    jobs = as_plan([job(tmp_path, f"{name}/single/train", ["-c", add, str(tmp_path / name)]) for name in "abc"])
    threads = [threading.Thread(target=Runner(jobs, say=said.append)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(tmp_path / name).read_text(encoding="utf-8") for name in "abc"] == ["x"] * 3


def test_only_some(tmp_path, said):
    jobs = as_plan([writes(tmp_path, "a/single/train"), writes(tmp_path, "b/single/train")])
    assert Runner(jobs, say=said.append)(["b/single/train"]) == []
    assert not (tmp_path / "a_single_train").exists() and (tmp_path / "b_single_train").exists()


def test_a_killed_run_has_no_known_time(tmp_path, said):
    made = writes(tmp_path, "a/single/train")
    made.folder.mkdir(parents=True)
    (made.folder / RECORD).write_text('{"state": "unfinished", "seconds": null}', encoding="utf-8")
    Runner(as_plan([made]), say=said.append)()
    record = read_record(made.folder)
    assert (record["state"], record["seconds"]) == ("done", None)


PROGRAM = """
import signal, sys
from pathlib import Path
from tests.tools.reproduce.made_up import as_plan, job
from tools.reproduce.runner import Runner
def stop(number, frame):
    raise KeyboardInterrupt
signal.signal(signal.SIGTERM, stop)
out = Path(sys.argv[1])
sleep = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"
jobs = as_plan([job(out, f"{n}/single/train", ["-c", sleep, str(out / n)]) for n in "ab"])
try:
    Runner(jobs, parallel=2)()
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_what_is_under_way(tmp_path, number):
    if number == signal.SIGINT and signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        pytest.skip("this process ignores Ctrl-C, and so would its children")
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    while not ((tmp_path / "a").exists() and (tmp_path / "b").exists()):
        time.sleep(0.02)
        assert process.poll() is None
    process.send_signal(number)
    assert process.wait(timeout=60) == 130
    for name in "ab":
        record = read_record(tmp_path / "jobs" / name / "single" / "train")
        assert (record["state"], record["error"]) == ("unfinished", "it was stopped")

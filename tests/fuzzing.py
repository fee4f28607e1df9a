"""Files that are damaged at random, tried in a process of their own: a crash or a hang there is a failed test here."""

from __future__ import annotations

import copy
import faulthandler
import json
import logging
import multiprocessing
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

LIMIT = 60  # seconds for one case, which takes some milliseconds
# The test modules are imported in the children again; what they need is there already.
_PRELOADED = ["common.data", "common.handlers", "common.transforms", "tests.scan_files", "tests.fuzzing"]

_LIMITS = (b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\xff" * 4, b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"9999", b"-1 0", b"1e99")
_WORDS = (
    b"", b"0", b"-1", b"1", b"2.5", b"nan", b"inf", b"-inf", b"1e99", b"1e-99", b"4294967295", b"2147483648",
    b"9" * 30, b"x", b"True", b"LIST", b"LOCAL", b"-", b".", b"..", b"%03d.raw", b"%s%s%n", b"(1,0,0)", b"none",
    b"\xff\xfe", b"a" * 3000, b"\0", b"gzip", b"raw", b"ascii", b"hex", b"bzip2", b"float", b"block", b"left",
)  # fmt: skip
_VALUES = (
    None, True, False, 0, -1, 3, 99, 2.5, 1e300, float("nan"), float("inf"), 10**30, "", " ", "a", "0", "2", "nan",
    "a\0b", "a/b", "../up", "/", ".", "..", "\udc80", "\n", "x" * 5000, [], [[]], [None], ["a"], [1, "2"], [[1]],
    [1.5], {}, {"a": 1}, {"1": [2]}, "<deep>", "<long>",
)  # fmt: skip


def damaged(content: bytes, rng: np.random.Generator, header: int) -> bytes:
    """Change a few bytes, mostly in the header, or cut a part out, double it, or leave off what follows it."""
    data, header = bytearray(content), min(header, len(content))
    kind = rng.integers(5)
    if kind <= 1:
        for _ in range(rng.integers(1, 6)):
            end = header if rng.random() < 0.8 else len(data)
            data[rng.integers(end)] = rng.integers(256)
    elif kind == 2:
        return content[: rng.integers(header if rng.random() < 0.5 else len(data))]
    else:
        start, length = int(rng.integers(header)), int(rng.integers(1, 40))
        part = data[start : start + length]
        data[start : start + length] = part * 2 if kind == 3 else b""
    if rng.random() < 0.3:  # numbers at their limits, where a text or a binary field may be
        place = int(rng.integers(header))
        data[place : place + 4] = _LIMITS[rng.integers(len(_LIMITS))]
    return bytes(data)


def damaged_lines(content: bytes, rng: np.random.Generator, header: int) -> bytes:
    """Change words of a header that consists of lines, or leave lines out, double or exchange them."""
    head, rest = content[:header], content[header:]
    lines = head.split(b"\n")
    for _ in range(rng.integers(1, 4)):
        one, other = (int(rng.integers(len(lines))) for _ in range(2))
        kind = rng.integers(6)
        if kind <= 2:
            words = lines[one].split(b" ")
            words[rng.integers(len(words))] = _WORDS[rng.integers(len(_WORDS))]
            lines[one] = b" ".join(words)
        elif kind == 3:
            lines[one] = b""
        elif kind == 4:
            lines[one], lines[other] = lines[other], lines[one]
        else:
            lines.insert(one, lines[other])
    return b"\n".join(lines) + rest


def damaged_values(content: Any, rng: np.random.Generator) -> Any:
    """Change one to three places of nested lists and dictionaries to something that does not belong there."""
    content = copy.deepcopy(content)
    for _ in range(rng.integers(1, 4)):
        place, key = None, None
        inner = content
        while isinstance(inner, (dict, list)) and inner and (place is None or rng.random() < 0.8):
            place = inner
            keys = list(place) if isinstance(place, dict) else range(len(place))
            key = keys[rng.integers(len(keys))]
            inner = place[key]
        if place is None or rng.random() < 0.02:
            return any_value(rng)
        if rng.random() < 0.2:
            del place[key]
        elif isinstance(place, dict) and rng.random() < 0.1:
            place[str(any_value(rng))] = place.pop(key)
        else:
            place[key] = any_value(rng)
    return content


def any_value(rng: np.random.Generator) -> Any:
    """Return a value of any kind that JSON has."""
    return copy.deepcopy(_VALUES[rng.integers(len(_VALUES))])


def json_text(content: Any) -> str:
    """Write JSON, also what Python's own writer does not: lists within lists without end, and numbers of any length."""
    text = json.dumps(content)
    return text.replace('"<deep>"', "[" * 5000 + "]" * 5000).replace('"<long>"', "9" * 5000)


def all_survive(trial: Callable[..., None], folder: Path, seeds: Sequence[int], *arguments: Any) -> None:
    """Try many cases in another process.

    Args:
        trial: a function of a module; called with a seed, an empty folder and the arguments, it has to raise when
            something is wrong. Outside of the folder it must not write.
        folder: an empty folder for the process.
        seeds: one for each case.
        arguments: more for ``trial``.

    Raises:
        AssertionError: a trial raised or printed something, took longer than ``LIMIT``, ended the process, or left a
            file elsewhere.
    """
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    if sys.platform == "linux":
        context.set_forkserver_preload(_PRELOADED)
    report, home = folder / "report.txt", folder / "home"
    home.mkdir()
    process = context.Process(target=_try_all, args=(trial, folder, seeds, arguments))
    process.start()
    process.join()
    assert process.exitcode == 0, (
        f"exit status {process.exitcode}\n{report.read_text(errors='replace', encoding='utf-8')}"
    )
    assert not list(home.iterdir())


def _try_all(trial: Callable[..., None], folder: Path, seeds: Sequence[int], arguments: Sequence[Any]) -> None:
    """Be the process: its current folder is ``home``, and what it says is in ``report.txt``."""
    os.chdir(folder / "home")
    warnings.simplefilter("ignore")
    logging.disable()
    with open(folder / "report.txt", "w", encoding="utf-8") as report:
        os.dup2(report.fileno(), 1)
        os.dup2(report.fileno(), 2)
        for seed in seeds:
            # A crash of compiled code, or a case that does not end, shows where; the seed is the one named last.
            report.seek(0)
            report.truncate()
            start = f"seed {seed}\n"
            report.write(start)
            report.flush()
            faulthandler.enable(report)
            faulthandler.dump_traceback_later(LIMIT, exit=True, file=report)
            place = folder / "case"
            place.mkdir()
            try:
                trial(seed, place, *arguments)
                sys.stdout.flush()
                sys.stderr.flush()
                assert os.path.getsize(folder / "report.txt") == len(start), "something was printed"
            except BaseException:
                traceback.print_exc(file=report)
                report.flush()
                os._exit(1)
            remove(place)
        faulthandler.cancel_dump_traceback_later()


def remove(folder: Path) -> None:
    """Delete a folder of small files; quicker than ``shutil.rmtree``, which looks at each twice."""
    for entry in folder.iterdir():
        remove(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    folder.rmdir()

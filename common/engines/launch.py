"""What a bundle checks before it builds anything, and how its errors reach the user.

A bundle runs through ``python -m monai.bundle run``, which knows nothing of the project: it takes any id from the
command line without a word, and ends an error in a traceback of a hundred lines. Every component of the bundles that
comes from ``common`` requires :func:`check_bundle` first, so this runs whatever tool reads the configuration.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.dummy import DummyProcess
from pathlib import Path
from types import TracebackType
from typing import Any

import torch.distributed as dist

import common
from common.engines.id_values import check_value
from common.engines.tracking import check_tracking, tracking_ids
from common.errors import InputError

__all__ = ["Switches", "check_bundle", "check_given", "end_run", "error_line", "one_of", "refusals", "start_run"]

logger = logging.getLogger(__name__)

# Arguments of `monai.bundle run` itself; everything else on its command line is an id of the configuration.
_RUN_ARGUMENTS = {
    "run_id", "init_id", "final_id", "meta_file", "config_file", "logging_file", "tracking", "args_file",
}  # fmt: skip
_TRUE, _FALSE = {"true", "1", "yes"}, {"false", "0", "no"}
_PATIENCE = 60.0  # seconds that a thread has to finish its scan before an error ends the process
_log_file: Path | None = None


def check_bundle(bundle_root: str | os.PathLike, bundle: str) -> str:
    """Make sure that the folder is this bundle and that the shared code is the one it was made for.

    Under ``python -m monai.bundle`` it also refuses unknown ids and unfit values, and turns errors into one line.

    Args:
        bundle_root: the bundle's folder.
        bundle: the name that its metadata must state as ``bundle``.

    Returns:
        The absolute path of the folder.

    Raises:
        InputError: another bundle's folder, another version of ``common``, or an id that no configuration defines
            or that is set to what it cannot be.
    """
    if _is_command_line():
        sys.excepthook = _report
        check_ids(sys.argv[1:])
    root = Path(bundle_root).resolve()
    metadata_file = root / "configs" / "metadata.json"
    try:
        metadata = json.loads(metadata_file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(metadata_file, f"cannot be read ({error})", "pass --bundle_root with the bundle") from error
    if metadata.get("bundle") != bundle:
        raise InputError(root, f"is not the bundle '{bundle}'", f"pass --bundle_root with the folder of {bundle}")
    if metadata.get("common_version") != common.__version__:
        raise InputError(
            root,
            f"needs version {metadata.get('common_version')} of the shared code, but {Path(common.__file__).parent} is "
            f"version {common.__version__}",
            "use bundles of one release",
        )
    return str(root)


def _is_command_line() -> bool:
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return getattr(spec, "name", "") == "monai.bundle.__main__"


def _arguments(argv: Sequence[str]) -> dict[str, str]:
    """Read ``--name value`` and ``--name=value``, as fire does, and the contents of ``--args_file``."""
    given: dict[str, str] = {}
    for word, following in zip(argv, [*argv[1:], ""], strict=False):
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            given[name.replace("-", "_")] = value if equals else following
    if path := given.get("args_file"):
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        given = {str(name): str(value) for name, value in content.items()} | given
    return given


def check_ids(argv: Sequence[str]) -> None:
    """Refuse ids of the command line that no configuration file defines, and what they cannot be set to.

    Args:
        argv: the words after ``python -m monai.bundle``.

    Raises:
        InputError: names the id, and the nearest one that exists; or see :func:`common.engines.id_values.check_value`
            and :func:`common.engines.tracking.check_tracking`.
    """
    given = _arguments(argv)
    if "config_file" not in given or not argv or argv[0] != "run":
        return
    defaults: dict[str, Any] = {}
    for name in given["config_file"].strip("[]() ").split(","):
        file = Path(name.strip(" '\""))
        if file.suffix == ".json" and file.is_file():
            defaults |= json.loads(file.read_text(encoding="utf-8"))
    if not defaults:
        return
    ids = {name: text for name, text in given.items() if name not in _RUN_ARGUMENTS}
    check_given(ids, defaults, tracking_ids(given.get("tracking")))
    check_tracking(given)


def check_given(given: Mapping[str, str], defaults: Mapping[str, Any], others: Collection[str] = ()) -> None:
    """Refuse ids that a configuration does not define, and what they cannot be set to.

    Args:
        given: the ids and what they are set to, as a command line has it.
        defaults: the configuration.
        others: further ids that may be given.

    Raises:
        InputError: names the id, and the nearest one that exists; or see :func:`common.engines.id_values.check_value`.
    """
    known = {_top(name) for name in defaults} | set(others)
    for name, text in given.items():
        if _top(name) not in known:
            near = difflib.get_close_matches(_top(name), sorted(known - {"imports"}), n=1)
            hint = f"did you mean --{near[0]}?" if near else "the ids are at the top of the configuration file"
            raise InputError(f"--{name}", "is not an id of this configuration", hint)
        if name in defaults:
            check_value(name, text, defaults[name])


def _top(name: str) -> str:
    return name.lstrip("+").replace("#", "::").split("::")[0]


class _RunLog(logging.FileHandler):
    """The log of a run. Where the disk is full, the log ends without adding to what the user reads of it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        pass


def start_run(output_dir: str | os.PathLike, bundle: str) -> str:
    """Make the folder of a run, and let its log file take down what the program says.

    Args:
        output_dir: where the run writes; made if it is not there.
        bundle: the bundle's name, for the first line of the log.

    Returns:
        The absolute path of the folder.

    Raises:
        InputError: the folder cannot be made or written.
    """
    global _log_file
    folder = Path(str(output_dir)).resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if dist.is_available() and dist.is_initialized() and dist.get_rank() > 0:
            return str(folder)  # the first process keeps the log
        handler = _RunLog(folder / "log.txt", encoding="utf-8")
    except OSError as error:
        raise InputError(folder, f"cannot be written ({error.strerror})", "choose another --output_dir") from error
    handler.setFormatter(logging.Formatter("%(asctime)s - %(name)s - %(levelname)s - %(message)s"))
    root = logging.getLogger()
    end_run()
    root.addHandler(handler)
    _log_file = folder / "log.txt"
    logger.info("%s %s writes to %s", bundle, common.__version__, folder)
    return str(folder)


def end_run() -> None:
    """Close the log of the run that :func:`start_run` began; a process may begin another."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _RunLog)]:
        root.removeHandler(handler)
        handler.close()


@contextmanager
def refusals() -> Iterator[None]:
    """Give the refusal itself of a component, which MONAI wraps in errors of its own.

    Raises:
        InputError: what a component has raised.
    """
    try:
        yield
    except Exception as error:
        cause = _first_cause(error)
        if isinstance(cause, InputError) and cause is not error:
            raise cause from error
        raise


def error_line(error: BaseException) -> str:
    """Return what a user reads of an error, one line; the traceback goes to the log file of the latest run."""
    cause = _first_cause(error)
    interrupted = isinstance(error, KeyboardInterrupt)
    expected = interrupted or isinstance(cause, InputError)
    log_file = _keep("".join(traceback.format_exception(error)), _log_file, needed=not expected)
    if interrupted:
        return "interrupted; what was finished is kept"
    if expected:
        return f"error: {cause}"
    message = " ".join(str(cause).split()) or "no message"
    return f"error: {type(cause).__name__}: {message[:400]}; the traceback is in {log_file}"


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print one line for the user."""
    line = error_line(error.with_traceback(trace))
    sys.stdout.flush()
    print(line, file=sys.stderr, flush=True)
    # A cache is filled by a pool of threads. One that is still at its scan when Python ends is cut off within C++ code,
    # and that aborts the process: with a status and a second line of its own.
    for thread in threading.enumerate():
        if isinstance(thread, DummyProcess) and thread is not threading.current_thread():
            thread.join(_PATIENCE)


def _keep(text: str, log_file: Path | None, needed: bool) -> Path | None:
    """Write a traceback to the run's log; before there is one, to a file of its own where the user is sent to it."""
    if log_file is None and not needed:
        return None
    if log_file is None:
        handle, name = tempfile.mkstemp(prefix="spine_bundle_", suffix=".log")
        os.close(handle)
        log_file = Path(name)
    try:
        with open(log_file, "a", encoding="utf-8") as file:
            file.write(text)
    except OSError:
        return None
    return log_file


def _first_cause(error: BaseException) -> BaseException:
    """Follow the chain of causes to an :class:`InputError`, else to its beginning: MONAI wraps what they raise."""
    chain = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) is not None and before not in chain:
        chain.append(before)
    chain = [_from_worker(link) for link in chain]
    return next((link for link in chain if isinstance(link, InputError)), _unwrapped(chain))


def _from_worker(error: BaseException) -> BaseException:
    """Read an :class:`InputError` out of the traceback that a loader's worker process hands over as text."""
    for line in str(error).splitlines() if str(error).startswith("Caught ") else ():
        name, _, message = line.partition(": ")
        if name == f"{InputError.__module__}.{InputError.__qualname__}":
            where, _, rest = message.partition(": ")
            problem, _, remedy = rest.rpartition("; ")
            return InputError(where, problem, remedy)
    return error


def _unwrapped(chain: Iterable[BaseException]) -> BaseException:
    wrappers = ("Failed to instantiate", "Failed to evaluate", "applying transform", "Caught ")
    links = list(chain)
    return next((link for link in links if not str(link).startswith(wrappers)), links[-1])


def one_of(name: str, value: Any, allowed: Sequence[str]) -> str:
    """Check an id that is one of a few words.

    Args:
        name: the id.
        value: what it is set to.
        allowed: what it may be set to.

    Returns:
        The word.

    Raises:
        InputError: it is none of them.
    """
    if value not in allowed:
        raise InputError(f"--{name} {value}", "is not known", f"choose {' or '.join(allowed)}")
    return str(value)


class Switches:
    """Booleans of a configuration, whose command line hands them over as strings.

    ``--resume false`` arrives as the string ``false``, which Python takes for true.

    Args:
        values: the ids and what they are set to: true, false, 1, 0, yes, no, in any case.

    Attributes:
        Each id is an attribute, a real bool.

    Raises:
        InputError: a value is none of these.
    """

    def __init__(self, **values: Any) -> None:
        for name, value in values.items():
            word = str(value).strip().lower()
            if word not in _TRUE | _FALSE:
                raise InputError(f"--{name} {value}", "is neither true nor false", f"pass --{name} true or false")
            setattr(self, name, word in _TRUE)

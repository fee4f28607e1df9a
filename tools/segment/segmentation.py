"""From a scan or a video to its segmentation, through the bundle's own inference.json."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from ignite.engine import Events
from monai.bundle import ConfigWorkflow

from common.data.atomic import write_json
from common.engines.launch import end_run, refusals
from common.errors import InputError
from tools.bundle_files import find_bundle
from tools.segment.progress import show_progress
from tools.segment.results import Failure, Result
from tools.segment.settings import OPTIONS, BundleSettings
from tools.segment.work import Work, work_of

__all__ = ["STATISTICS", "segment"]

STATISTICS = "statistics.json"
_OPTION = re.compile("--(" + "|".join(OPTIONS) + r")\b")


def segment(
    model: str | os.PathLike,
    source: str | os.PathLike,
    output: str | os.PathLike,
    *,
    weights: str | os.PathLike | None = None,
    device: str = "auto",
    fast: bool = False,
    preview: bool = False,
    statistics: bool = False,
    output_format: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
    ids: Mapping[str, Any] | None = None,
) -> Result:
    """Segment a scan, a video, or a folder of them.

    What an earlier run has done into the same folder, with the same weights and settings, is kept and not done again.

    Args:
        model: name of a bundle, or its folder.
        source: for the spine a NIfTI, ``.mha``, ``.nrrd`` or DICOM file, the folder of a DICOM series, or a folder of
            these; for video a file, a folder of frames, or a folder of these.
        output: the folder of the results; made if it is not there.
        weights: a file of weights, with the settings that it was trained with (``model.json``) beside it; None: the
            bundle's own.
        device: ``auto`` (CUDA where there is one), ``gpu``, or one of PyTorch's, such as ``cpu`` or ``cuda:1``.
        fast: use the bundle's faster mode.
        preview: draw the result on the scan or the video.
        statistics: write ``statistics.json`` (:meth:`Result.summary`).
        output_format: for the spine ``nifti``, ``mha``, ``nrrd`` or ``dicom-seg``, for video ``video`` or ``png``;
            None: what suits the input.
        overwrite: do everything again, and replace what is there.
        progress: show on a terminal how far it is, else print a line now and then.
        ids: further ids of the bundle's inference.json and what they are set to, such as ``{"precision": "fp32"}``.

    Returns:
        What is done, and what could not be done while the rest could.

    Raises:
        InputError: nothing could be done: the model, the weights, an input, an id or the folder cannot be used, or
            another result would be overwritten.
    """
    begin = time.monotonic()
    with _contained(), _own_words(), refusals():
        settings = BundleSettings(find_bundle(model), weights, fast, ids)
        settings.set_format(output_format)
        folder = Path(os.path.abspath(os.path.expanduser(output)))
        settings.set(input=os.path.abspath(os.path.expanduser(source)), output_dir=str(folder), overlay=bool(preview))
        if device != "auto":
            settings.set(device={"gpu": "cuda:0"}.get(device, device))
        if "overwrite" in settings:
            # Parts of an interrupted run are replaced; where none has ever been, what is there is not ours.
            settings.set(overwrite=overwrite or (folder / "log.txt").is_file())
        workflow = ConfigWorkflow(
            config_file=[str(file) for file in settings.files],
            workflow_type="infer",
            logging_file=False,
            **settings.ids,
        )
        workflow.initialize()
        workflow.parser.get_parsed_content("started")
        work = work_of(workflow.parser)
        if not overwrite:
            work.keep_finished()
        if work.left:
            _run(workflow, work, progress)
        result = Result(
            output=folder,
            items=work.items(),
            failures=[Failure(failure.source, _renamed(failure.problem)) for failure in work.failures],
            device=str(workflow.parser.get_parsed_content("device")),
            seconds=time.monotonic() - begin,
            unit=work.unit,
        )
        if statistics:
            write_json(folder / STATISTICS, result.summary())
    return result


def _run(workflow: ConfigWorkflow, work: Work, progress: bool) -> None:
    """Run to the end; that some inputs could not be done is no error where others could."""
    evaluator = workflow.parser.get_parsed_content("evaluator")
    ended: list[bool] = []
    evaluator.add_event_handler(Events.COMPLETED, lambda: ended.append(True))
    try:
        with show_progress(work, evaluator) if progress else nullcontext():
            workflow.run()
    except Exception:
        if not (ended and work.failures and work.items()):
            raise


@contextmanager
def _contained() -> Iterator[None]:
    """Undo what a run does to its process: ``sys.path``, loggers, the log file; and keep MONAI from its remarks."""
    path, common = list(sys.path), logging.getLogger("common")
    quiet = [logging.getLogger(name) for name in logging.root.manager.loggerDict if name.startswith("monai")]
    levels = {logger: logger.level for logger in (common, *quiet)}
    common.setLevel(logging.INFO)  # what goes into the run's log file
    for logger in quiet:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.path[:] = path
        end_run()
        for logger, level in levels.items():
            logger.setLevel(level)


@contextmanager
def _own_words() -> Iterator[None]:
    """Name the options of this program in a refusal, in the place of the bundle's ids."""
    try:
        yield
    except InputError as error:
        words = [_renamed(text) for text in (error.where, error.problem, error.remedy)]
        raise InputError(*words) from error


def _renamed(text: str) -> str:
    return _OPTION.sub(lambda found: OPTIONS[found.group(1)], text).replace("--overwrite true", "--overwrite")

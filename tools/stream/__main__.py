"""Outline the nerve in a camera's picture, a stream or a video, as it comes.

Of a camera, a stream, or a file that is played, every picture is shown at the source's pace, and the newest frame is
segmented meanwhile: what comes while the network is busy is dropped and counted, so the outline never lags behind more
than the network needs. The outline is bright and broad on the frame that it was found in, darker and finer on those
that follow, and left out once it is older than ``--max_age`` seconds or of another scene. ``--every_frame`` is for
recorded video: nothing is dropped, and each picture has its own outline.

It ends with the source, whose last frame is always segmented, after ``--max_frames``, when the window is closed, or on
Ctrl-C, once the frame that is being segmented is done: what was written is closed and can be played, and the counts are
reported, with exit status 0. The status is 1 after an error, which is one line, and 130 on Ctrl-C while it is still
loading or on a second one.

Counts: every frame that was received is ``segmented`` or ``dropped``; ``shown`` are the pictures that were given out;
``outlines`` says what they got, see :class:`tools.stream.outlines.Outlines`.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from common.data.atomic import write_json
from common.data.video import OverlayVideoWriter, open_source
from common.data.video.camera import is_camera, shown_address
from common.data.video.live import open_live
from common.errors import InputError
from tools.configuration import as_value, ids_in_words
from tools.stream.continuity import Continuity
from tools.stream.ctrl_c import CtrlC
from tools.stream.loops import follow_live, go_through
from tools.stream.outlines import Outlines
from tools.stream.pictures import Pictures
from tools.stream.pipeline import FramePipeline
from tools.stream.segmentation import FrameTable, Segmentation
from tools.stream.timing import times_table
from tools.stream.window import Window
from tools.stream.worker import NewestFrameWorker

ROOT = Path(__file__).resolve().parents[2]


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.stream", description=__doc__.splitlines()[0])
    parser.add_argument("--source", required=True, help="video file, folder of frames, camera (0, /dev/video0) or URL")
    parser.add_argument("--bundle", default=str(ROOT / "bundles" / "funet"), help="folder of the bundle")
    parser.add_argument("--checkpoint", help="weights; by default the bundle's models/model.pt")
    parser.add_argument("--config_file", action="append", default=[], help="laid over the bundle's inference.json")
    parser.add_argument("--set", action="append", default=[], metavar="ID=VALUE", help="change an id of inference.json")
    parser.add_argument("--device", help="cpu, cuda:0, ...; by default CUDA where there is one")
    parser.add_argument("--precision", help="auto, fp32, bf16 or fp16")
    parser.add_argument("--compile", action="store_true", help="compile the network first")
    parser.add_argument("--cuda_graphs", action="store_true", help="launch the network's kernels at once (CUDA only)")
    parser.add_argument(
        "--no_ifa", action="store_true", help="leave inter-frame attention out: faster, same masks at 0.5"
    )
    parser.add_argument("--output", help="write the outlined video to this .mp4")
    parser.add_argument("--headless", action="store_true", help="no window; with --output there is none either")
    parser.add_argument("--statistics", help="write counts and times to this .json")
    parser.add_argument("--table", help="write a row for each segmented frame to this .csv")
    parser.add_argument("--every_frame", action="store_true", help="drop no frame (recorded video only)")
    parser.add_argument(
        "--max_age", type=float, default=0.5, help="seconds from which on an outline is too old to be shown"
    )
    parser.add_argument("--frame_rate", type=float, help="of a folder of frames; asked of a camera")
    parser.add_argument("--max_frames", type=int, help="end after so many segmented frames")
    parser.add_argument("--cut", type=float, default=0.15, help="difference of two frames from which on it is a cut")
    parser.add_argument(
        "--gap", type=float, default=0.5, help="seconds by which time stamps jump from which on it is a gap"
    )
    parser.add_argument("--debug", action="store_true", help="say where an error happened")
    return parser.parse_args(argv)


def check(options: argparse.Namespace) -> None:
    """Refuse what cannot work before anything is loaded.

    Raises:
        InputError: names the argument.
    """
    for name in ("max_frames", "frame_rate", "max_age", "cut", "gap"):
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"--{name} {value}", "is not above 0", "pass a positive number or leave it out")
    if options.every_frame and is_camera(options.source):
        raise InputError(
            "--every_frame", f"is for recorded video, not for {shown_address(options.source)}", "leave it out"
        )
    if not is_camera(options.source) and not Path(options.source).exists():
        raise InputError(options.source, "does not exist", "pass a video, a folder of frames, a camera or a URL")
    if options.output and Path(options.output).suffix.lower() != OverlayVideoWriter.suffix:
        raise InputError(options.output, "is written as .mp4", "let its name end in .mp4")
    for name in ("output", "table"):
        value = getattr(options, name)
        if value and Path(value).exists():
            raise InputError(value, "exists", f"pass another --{name}, or move it away")


def ids_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the command line changes in inference.json.

    Raises:
        InputError: ``--set`` is not of the form ID=VALUE.
    """
    ids: dict[str, Any] = {
        name: value for name in ("checkpoint", "device", "precision") if (value := getattr(options, name))
    }
    return ids | {name: as_value(text) for name, text in ids_in_words(options.set, "threshold=0.4").items()}


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Segment until the source ends, the window is closed, or ``--max_frames`` are done.

    Returns:
        Counts and times.

    Raises:
        InputError: see the parts; what was written so far is closed and can be played.
    """
    check(options)
    pipeline = FramePipeline(
        options.bundle, ids_of(options), not options.no_ifa, options.compile, options.config_file, options.cuda_graphs
    )
    statistics: dict[str, Any] = {"source": shown_address(options.source)}
    with ExitStack() as stack:
        opened = open_source if options.every_frame else open_live
        source = stack.enter_context(opened(options.source, frame_rate=options.frame_rate))
        ctrl_c = stack.enter_context(CtrlC())  # how a live run is ended
        window = table = None
        if not options.headless and not options.output:
            window = Window(f"{Path(options.bundle).name}: {shown_address(options.source)}")
            stack.callback(window.close)
        if options.table:
            table = FrameTable(options.table, pipeline)
            stack.callback(table.close)
        pictures = stack.enter_context(Pictures(options.output, window, source.frame_rate))
        continuity = Continuity(options.cut, options.gap, source.frame_rate)
        segmentation, outlines = Segmentation(pipeline, table.add if table else None), Outlines(options.max_age)
        began = time.monotonic()
        try:
            if options.every_frame:
                go_through(source, segmentation, continuity, pictures, ctrl_c, options.max_frames)
            else:
                with NewestFrameWorker(segmentation, options.max_frames) as worker:
                    follow_live(source, worker, continuity, outlines, pictures, ctrl_c)
        finally:
            statistics |= {"segmented": segmentation.segmented, "found": segmentation.found}
            if pipeline.two_stages:
                statistics["present"] = segmentation.present
            statistics |= {"resets": continuity.counts, "seconds": time.monotonic() - began}
            if not options.every_frame:
                received = source.received
                statistics |= {"received": received, "dropped": received - segmentation.segmented}
                statistics |= {"shown": pictures.shown, "outlines": outlines.counts}
                statistics["outline_age_ms"] = outlines.ages.summary().get("age")
            statistics["steps_ms"] = pipeline.times.summary() | pictures.times.summary()
            if segmentation.segmented or pictures.shown:
                print(report(statistics, pipeline.device))
            if options.statistics:
                write_json(options.statistics, statistics)
    return statistics


def report(statistics: dict[str, Any], device: torch.device) -> str:
    """Return counts and times as text."""
    rate = statistics["segmented"] / max(statistics["seconds"], 1e-9)
    dropped = f", {statistics['dropped']} of {statistics['received']} dropped" if "received" in statistics else ""
    text = (
        f"{statistics['segmented']} frames segmented on {device} in {statistics['seconds']:.1f} s "
        f"({rate:.1f} a second{dropped}); something found in {statistics['found']}"
    )
    if "present" in statistics:
        text += f"; {statistics['present']} passed the gate"
    if statistics["resets"]:
        text += "; begun anew after " + ", ".join(f"{count} x {why}" for why, count in statistics["resets"].items())
    if "shown" in statistics:
        counts, age = statistics["outlines"], statistics["outline_age_ms"]
        text += (
            f"\n{statistics['shown']} pictures shown, outlined by their own frame {counts['own']}, by an earlier one "
            f"{counts['earlier']}; not outlined: {counts['too_old']} (too old), {counts['none']} (none yet)"
        )
        if age:
            text += f"\nage of the outline: p50 {age['p50']:.0f}, p95 {age['p95']:.0f}, p99 {age['p99']:.0f} ms"
        if counts["too_old"] > counts["own"] + counts["earlier"]:
            text += "; most were too old to be drawn: --max_age allows more"
    return f"{text}\n{times_table(statistics['steps_ms'])}"


def main(argv: Sequence[str] | None = None) -> int:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    options = arguments(argv)
    logging.getLogger("tools.stream").setLevel(logging.DEBUG if options.debug else logging.NOTSET)
    try:
        run(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

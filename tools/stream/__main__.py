"""Outline the nerve in a camera's picture, a stream or a video, frame by frame, as it comes.

Of a camera, a stream, or a file that is played, only the newest frame is segmented: what came while the network was
busy is dropped and counted, so the outline never lags behind. ``--every_frame`` drops nothing, for recorded video.

It ends with the source, after ``--max_frames``, when the window is closed, or on Ctrl-C: what was written is closed and
can be played, and the counts are reported, with exit status 0. The status is 1 after an error, which is one line, and
130 on Ctrl-C while it is still loading.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from common.data.atomic import write_json
from common.data.video import Frame, OverlayVideoWriter, open_source
from common.data.video.camera import is_camera, shown_address
from common.data.video.live import LiveSource, open_live
from common.errors import InputError
from common.visualize import draw_outline
from tools.stream.continuity import Continuity
from tools.stream.pipeline import FramePipeline
from tools.stream.window import Window

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
    parser.add_argument(
        "--no_ifa", action="store_true", help="leave inter-frame attention out: faster, same masks at 0.5"
    )
    parser.add_argument("--output", help="write the outlined video to this .mp4")
    parser.add_argument("--headless", action="store_true", help="no window; with --output there is none either")
    parser.add_argument("--statistics", help="write counts and times to this .json")
    parser.add_argument("--every_frame", action="store_true", help="drop no frame (recorded video only)")
    parser.add_argument("--frame_rate", type=float, help="of a folder of frames; asked of a camera")
    parser.add_argument("--max_frames", type=int, help="end after so many segmented frames")
    parser.add_argument("--cut", type=float, default=0.15, help="difference of two frames from which on it is a cut")
    parser.add_argument(
        "--gap", type=float, default=0.5, help="seconds by which time stamps jump from which on it is a gap"
    )
    return parser.parse_args(argv)


def check(options: argparse.Namespace) -> None:
    """Refuse what cannot work before anything is loaded.

    Raises:
        InputError: names the argument.
    """
    for name in ("max_frames", "frame_rate", "cut", "gap"):
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
    if options.output and Path(options.output).exists():
        raise InputError(options.output, "exists", "pass another --output, or move it away")


def frames_of(source: Any) -> Iterator[Frame]:
    """Yield the frames of a recorded source, or the newest of a live one until it ends."""
    if not isinstance(source, LiveSource):
        yield from source
        return
    while True:
        frame = source.latest()
        if frame is None:
            return
        yield frame


def ids_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the command line changes in inference.json.

    Raises:
        InputError: ``--set`` is not of the form ID=VALUE.
    """
    ids: dict[str, Any] = {
        name: value for name in ("checkpoint", "device", "precision") if (value := getattr(options, name))
    }
    for pair in options.set:
        name, equals, text = pair.partition("=")
        if not equals:
            raise InputError(f"--set {pair}", "is not of the form ID=VALUE", "pass one such as --set threshold=0.4")
        try:
            ids[name] = json.loads(text)
        except ValueError:
            ids[name] = text
    return ids


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Segment until the source ends, the window is closed, or ``--max_frames`` are done.

    Returns:
        Counts and times.

    Raises:
        InputError: see the parts; what was written so far is closed and can be played.
    """
    check(options)
    pipeline = FramePipeline(options.bundle, ids_of(options), not options.no_ifa, options.compile, options.config_file)
    statistics: dict[str, Any] = {"source": shown_address(options.source), "segmented": 0, "found": 0, "resets": {}}
    with ExitStack() as stack:
        if options.every_frame:
            source: Any = stack.enter_context(open_source(options.source, options.frame_rate))
        else:
            source = stack.enter_context(open_live(options.source, frame_rate=options.frame_rate))
        window = None
        if not options.headless and not options.output:
            window = Window(f"{Path(options.bundle).name}: {shown_address(options.source)}")
            stack.callback(window.close)
        continuity = Continuity(options.cut, options.gap, source.frame_rate)
        writer, began = None, time.monotonic()
        try:
            for frame in frames_of(source):
                taken = time.perf_counter()
                why = continuity.breaks(frame)
                if why is not None:
                    pipeline.reset()
                    statistics["resets"][why] = statistics["resets"].get(why, 0) + 1
                mask = pipeline(frame)
                if options.output or window:
                    with pipeline.times.step("draw"):
                        picture = draw_outline(frame.image, mask)
                if options.output:
                    if writer is None:
                        writer = OverlayVideoWriter(options.output, mask.shape, source.frame_rate)
                        stack.push(writer)
                    with pipeline.times.step("write"):
                        writer.write(picture, frame.time)
                if window:
                    with pipeline.times.step("show"):
                        window.show(picture)
                pipeline.times.add("whole frame", time.perf_counter() - taken)
                statistics["segmented"] += 1
                statistics["found"] += bool(mask.any())
                if (window and window.closed) or statistics["segmented"] == options.max_frames:
                    break
        except KeyboardInterrupt:
            pass  # how a live run is ended
        finally:
            statistics["seconds"] = time.monotonic() - began
            if isinstance(source, LiveSource):
                statistics |= {"received": source.received, "dropped": source.dropped}
            statistics["steps_ms"] = pipeline.times.summary()
            if statistics["segmented"]:
                print(report(statistics, pipeline))
            if options.statistics:
                write_json(options.statistics, statistics)
    return statistics


def report(statistics: dict[str, Any], pipeline: FramePipeline) -> str:
    """Return counts and times as text."""
    rate = statistics["segmented"] / max(statistics["seconds"], 1e-9)
    dropped = f", {statistics['dropped']} of {statistics['received']} dropped" if "received" in statistics else ""
    resets = ", ".join(f"{count} x {why}" for why, count in statistics["resets"].items())
    return (
        f"{statistics['segmented']} frames segmented on {pipeline.device} in {statistics['seconds']:.1f} s "
        f"({rate:.1f} a second{dropped}); something found in {statistics['found']}"
        + (f"; begun anew after {resets}" if resets else "")
        + f"\n{pipeline.times.table()}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    options = arguments(argv)
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

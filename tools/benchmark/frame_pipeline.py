"""The two stages on running video: steps, frames that are dropped, and what the gate saves."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import fmean, median
from typing import Any

import numpy as np
import torch

from common.inferers.device_frames import DeviceFrames
from common.networks import TwoStage
from tools.benchmark.turns import percentiles, take_turns, wait

__all__ = ["STEPS", "Clock", "NewestFrames", "TimedPipeline", "is_open", "measure_gating", "measure_stream"]

STEPS = ("preprocess", "classifier", "segmenter", "postprocess")
_PERCENTS = (50, 95, 99)


class Clock:
    """The time in seconds, and waiting for it."""

    now = staticmethod(time.perf_counter)
    sleep = staticmethod(time.sleep)


class NewestFrames:
    """A source that runs by the clock, of which only the newest frame is taken, as of a camera.

    Frame k comes k / ``rate`` seconds after the first. A frame that was not taken before the next one came is dropped.

    Args:
        rate: frames per second.
        clock: what tells the time.

    Attributes:
        came: how many frames had come when the last one was taken.
        dropped: how many of them were not taken.
    """

    def __init__(self, rate: float, clock: Any = Clock) -> None:
        self.rate, self.clock = rate, clock
        self.begin = clock.now()
        self.came = self.dropped = 0

    def take(self) -> tuple[int, float]:
        """Wait for a frame that has not been taken, if there is none, and take the newest.

        Returns:
            Its number, and when it came.
        """
        missing = self.begin + self.came / self.rate - self.clock.now()
        if missing > 0:
            self.clock.sleep(missing)
        newest = max(self.came, int((self.clock.now() - self.begin) * self.rate))
        self.dropped += newest - self.came
        self.came = newest + 1
        return newest, self.begin + newest / self.rate


def is_open(number: int, share: float) -> bool:
    """Say whether a frame passes the gate in a pattern that spreads a share of open frames evenly."""
    return int((number + 1) * share + 1e-9) > int(number * share + 1e-9)


class TimedPipeline:
    """From a frame to its mask, with the time of each step.

    The classifier runs on every frame, but what it says does not count: with random weights it says anything.

    Args:
        network: the two stages, in evaluation mode.
        device: where they are; a step has ended when the device has done it.
        threshold: probability from which on a pixel belongs to the mask.
    """

    def __init__(self, network: TwoStage, device: torch.device, threshold: float = 0.5) -> None:
        self.network, self.device, self.threshold = network, device, threshold
        self._to_device = DeviceFrames(device=device)

    @torch.no_grad()
    def __call__(self, frame: np.ndarray, passes: bool) -> tuple[np.ndarray, dict[str, float]]:
        """Segment a frame.

        Args:
            frame: (H, W, 3) uint8.
            passes: whether the segmenter is called.

        Returns:
            The mask (H, W), uint8, 0 and 1, and the milliseconds of each of ``STEPS`` and of the ``whole``. Without the
            segmenter, making an empty mask belongs to ``postprocess``.
        """
        moments = [self._now()]
        x = self._to_device(frame)[None]
        moments.append(self._now())
        bool(self.network.gate(x) >= self.network.threshold)  # as in use, the host waits for the answer
        moments.append(self._now())
        logits = self.network.segment_where(x, torch.tensor([passes], device=self.device))
        moments.append(self._now())
        mask = (logits.sigmoid() >= self.threshold).to(torch.uint8)[0, 0].cpu().numpy()
        moments.append(self._now())
        times = {step: (moments[i + 1] - moments[i]) * 1000 for i, step in enumerate(STEPS)}
        if not passes:
            times["postprocess"] += times.pop("segmenter")
        return mask, times | {"whole": (moments[-1] - moments[0]) * 1000}

    def _now(self) -> float:
        wait(self.device)
        return time.perf_counter()


def measure_stream(
    pipeline: TimedPipeline,
    frames: Sequence[np.ndarray],
    share: float,
    count: int,
    warm_up: int,
    source: Callable[[], NewestFrames],
) -> dict[str, Any]:
    """Segment the newest frames of a running source until there are enough.

    Args:
        pipeline: what segments them.
        frames: what the source shows, again and again.
        share: of frames that pass the gate.
        count: how many frames are taken from the source.
        warm_up: how many frames are segmented before the source begins.
        source: begins it.

    Returns:
        ``frames``, ``came``, ``dropped``, ``frames_per_second``, ``open_share`` (as it was), ``steps`` (for each of
        ``STEPS``, the ``whole`` and ``age``, from a frame's coming to its mask: percentiles, ``count``, and ``share``
        of all the time), ``bound_by`` (the step with the largest share).
    """
    for number in range(warm_up):
        pipeline(frames[number % len(frames)], share > 0)
    running = source()
    times: dict[str, list[float]] = {}
    for number in range(count):
        newest, came = running.take()
        _, taken = pipeline(frames[newest % len(frames)], is_open(number, share))
        taken["age"] = (running.clock.now() - came) * 1000
        for step, milliseconds in taken.items():
            times.setdefault(step, []).append(milliseconds)
    seconds = running.clock.now() - running.begin
    whole = sum(times["whole"])
    steps = {
        step: percentiles(times[step], _PERCENTS) | {"count": len(times[step]), "share": sum(times[step]) / whole}
        for step in (*STEPS, "whole", "age")
        if step in times
    }
    return {
        "frames": count,
        "came": running.came,
        "dropped": running.dropped,
        "frames_per_second": count / seconds,
        "open_share": len(times.get("segmenter", [])) / count,
        "steps": steps,
        "bound_by": max((step for step in STEPS if step in steps), key=lambda step: steps[step]["share"]),
    }


def measure_gating(
    pipeline: TimedPipeline, frames: Sequence[np.ndarray], shares: Sequence[float], count: int, warm_up: int
) -> list[dict[str, Any]]:
    """Compare what the gate saves with what the share of closed frames promises.

    Each frame goes through an open gate, a closed one, and one of each share, one after the other.

    Args:
        pipeline: what segments them.
        frames: shown again and again.
        shares: of frames that pass the gate.
        count: how many frames count.
        warm_up: how many before them do not.

    Returns:
        For each share ``share`` (as it was), ``ms_open``, ``ms_closed``, ``ms_share``, ``ms_segmenter``, ``saved`` = 1
        - ms_share / ms_open, ``promised`` = (1 - share) ms_segmenter / ms_open, ``ratio`` = saved / promised, all of
        medians (at a share: those of its open and of its closed frames, weighted), and ``ratio_of_means``, the same of
        plain means; ratios are None where no frame was closed.
    """
    patterns = [1.0, 0.0, *shares]
    runs: list[list[dict[str, float]]] = [[] for _ in patterns]

    def run(which: int, number: int) -> None:
        runs[which].append(pipeline(frames[number % len(frames)], is_open(number, patterns[which]))[1])

    ways = [lambda number, which=which: run(which, number) for which in range(len(patterns))]
    take_turns(ways, warm_up + count, warm_up, pipeline.device)
    opened, closed, *shared = [taken[warm_up:] for taken in runs]
    return [_saved(opened, closed, taken) for taken in shared]


def _saved(
    opened: Sequence[dict[str, float]], closed: Sequence[dict[str, float]], shared: Sequence[dict[str, float]]
) -> dict[str, Any]:
    whole = [taken["whole"] for taken in shared if "segmenter" in taken]
    rest = [taken["whole"] for taken in shared if "segmenter" not in taken]
    share = len(whole) / len(shared)

    def ratio(middle: Callable[[Sequence[float]], float]) -> dict[str, float | None]:
        ms_open, ms_segmenter = (middle([taken[step] for taken in opened]) for step in ("whole", "segmenter"))
        ms_share = sum(len(part) / len(shared) * middle(part) for part in (whole, rest) if part)
        saved, promised = 1 - ms_share / ms_open, (1 - share) * ms_segmenter / ms_open
        return {
            "ms_open": ms_open,
            "ms_closed": middle([taken["whole"] for taken in closed]),
            "ms_share": ms_share,
            "ms_segmenter": ms_segmenter,
            "saved": saved,
            "promised": promised,
            "ratio": saved / promised if promised else None,
        }

    return {"share": share, **ratio(median), "ratio_of_means": ratio(fmean)["ratio"]}

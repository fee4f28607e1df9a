"""The networks for single frames side by side, and both stages on running video: ``python -m tools.benchmark.frames``.

Three parts, which ``--parts`` chooses from:

- ``models``: the paper's table 5. Parameters and operations by count, milliseconds per frame at each model's own input
  size. Each frame goes through every model, one after the other, so that all see the same load. SegFormers need the
  package transformers and are left out without it.
- ``pipeline``: classifier and segmenter on a source of 30 frames a second, of which the newest frame is taken and those
  that it replaced are dropped; with the gate always open, always closed, and open for a share of the frames. It ends
  when ``--frames`` have been taken, however many came meanwhile.
- ``gating``: the time per frame at several shares of open frames beside what the share of closed ones promises.

Batch size 1, random weights, on which the times do not depend. The classifier runs on every frame, but a fixed pattern,
which spreads the open frames evenly, takes the place of what it says. The share is by default that of the frames of the
video phantoms that show the nerve, as they come in training (20 sequences of 40 frames). ``--precision`` (autocast),
``--channels_last``, ``--compile`` and ``--cuda_graphs`` may name several settings: all combinations are measured one
after another, in the same run.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from common.data.video.phantom import make_video_phantom
from common.errors import InputError
from common.networks import TwoStage
from tools.benchmark.arguments import OneLineParser, check_outputs, find_device, positive, words, write_outputs
from tools.benchmark.flops import count_flops, count_parameters
from tools.benchmark.frame_models import CLASSIFIERS, MODELS, SEGMENTERS, FrameModel
from tools.benchmark.frame_pipeline import NewestFrames, TimedPipeline, measure_gating, measure_stream
from tools.benchmark.frame_report import as_markdown
from tools.benchmark.frame_settings import PreparedNetwork, Setting
from tools.benchmark.machine import describe_machine, load
from tools.benchmark.turns import percentiles, settle, take_turns

__all__ = ["main", "phantom_share"]

_PARTS = ("models", "pipeline", "gating")
_PICTURES = 4
_SMALL = (135, 240)  # the phantom is drawn so and enlarged: what a frame shows costs no time
_SEQUENCES, _LENGTH = 20, 40


def _share(text: str) -> float:
    if not 0 < (share := float(text)) < 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, got {text!r}")
    return share


def _shares(text: str) -> list[float]:
    return [_share(word) for word in text.split(",")]


def _rate(text: str) -> float:
    if not 0 < (rate := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return rate


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = OneLineParser("tools.benchmark.frames", __doc__)
    switch = {"type": words(["no", "yes"]), "default": ["no"], "help": "no, yes or no,yes; default: no"}
    parser.add_argument("--parts", type=words(_PARTS), default=list(_PARTS), help=f"of {','.join(_PARTS)}")
    parser.add_argument("--models", type=words(list(MODELS)), default=list(MODELS), help=f"of {','.join(MODELS)}")
    parser.add_argument("--classifier", choices=CLASSIFIERS, default="resnet18", help="of the pipeline")
    parser.add_argument("--segmenter", choices=SEGMENTERS, default="unet", help="of the pipeline")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N; default: cpu")
    precisions = ["fp32", "bf16", "fp16"]
    parser.add_argument("--precision", type=words(precisions), default=["fp32"], help="one or more of fp32,bf16,fp16")
    for name in ("--channels_last", "--compile", "--cuda_graphs"):
        parser.add_argument(name, **switch)
    parser.add_argument("--frames", type=positive, help="that count; default: 300 on CUDA, 60 on a CPU")
    parser.add_argument("--warm_up", type=positive, default=5, help="frames before them; default: 5")
    parser.add_argument("--frame_rate", type=_rate, default=30.0, help="of the source; default: 30")
    parser.add_argument("--open_share", type=_share, help="of the frames; default: that of the video phantoms")
    parser.add_argument("--gating_shares", type=_shares, default=[0.25, 0.5, 0.75], help="default: 0.25,0.5,0.75")
    parser.add_argument(
        "--frame_size", type=positive, nargs=2, default=[1080, 1920], help="of the source; default: 1080 1920"
    )
    for stage in ("classifier", "segmenter"):
        parser.add_argument(f"--{stage}_size", type=positive, nargs=2, help="of its input; default: each its own")
    parser.add_argument("--features", type=positive, nargs="+", help="widths of the U-Nets; default: the paper's")
    parser.add_argument("--threads", type=positive, help="of PyTorch on the CPU; default: the cores")
    parser.add_argument("--output", nargs="+", type=Path, default=[], help="files to write: .json or .md")
    return parser.parse_args(argv)


@cache
def phantom_share() -> float:
    """Return which share of the frames of the video phantoms, as they come in training, shows the nerve."""
    present = [make_video_phantom(seed, _LENGTH, (32, 32)).present for seed in range(_SEQUENCES)]
    return float(np.mean(present))


class _Benchmark:
    """What the three parts have in common.

    Args:
        arguments: of the command line.

    Attributes:
        left_out: why models are missing from the table.

    Raises:
        InputError: a device or a setting is not there.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.device = find_device(arguments.device)
        switches = [
            [word == "yes" for word in chosen]
            for chosen in (arguments.channels_last, arguments.compile, arguments.cuda_graphs)
        ]
        self.settings = [Setting(precision, *on) for *on, precision in product(*switches, arguments.precision)]
        for setting in self.settings:
            setting.check(self.device)
        self.frames = arguments.frames or (300 if self.device.type == "cuda" else 60)
        self.left_out: list[str] = []

    def run(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Measure the parts that were asked for.

        Returns:
            Their rows, and what is to be known about the run.

        Raises:
            InputError: sizes or widths that a network cannot take, or a pipeline's SegFormer without its package.
        """
        parts = self.arguments.parts
        results = {"models": self._models()} if "models" in parts else {}
        about: dict[str, Any] = {"left_out": self.left_out, "frames": self.frames, "warm_up": self.arguments.warm_up}
        if "pipeline" in parts or "gating" in parts:
            chosen = [MODELS[self.arguments.classifier], MODELS[self.arguments.segmenter]]
            about["pipeline"] = {
                "classifier": chosen[0].title,
                "segmenter": chosen[1].title,
                "classifier_size": list(self._size(chosen[0])),
                "segmenter_size": list(self._size(chosen[1])),
                "frame_size": self.arguments.frame_size,
                "frame_rate": self.arguments.frame_rate,
                "share_source": "as given" if self.arguments.open_share else "of the video phantoms' frames",
            }
            results |= self._stages([part for part in ("pipeline", "gating") if part in parts])
        return results, about

    def _size(self, model: FrameModel) -> tuple[int, int]:
        given = self.arguments.classifier_size if model.kind == "classifier" else self.arguments.segmenter_size
        return tuple(given or model.size)

    def _build(self, model: FrameModel) -> nn.Module:
        """Build a model with random weights, in evaluation mode, on the device."""
        torch.manual_seed(0)
        try:
            network = model.build(self.arguments.features).to(self.device)
            return settle(network, (torch.rand(2, 3, *self._size(model)).to(self.device) for _ in range(2)))
        except ValueError as error:
            raise InputError(model.title, f"cannot be built ({error})", "change --features or the size") from error

    def _announce(self, part: str, setting: Setting) -> None:
        print(f"{part}: {setting.words()}", file=sys.stderr, flush=True)
        if setting.compiled:
            torch.compiler.reset()  # only so many variants of one function are kept compiled

    def _models(self) -> list[dict[str, Any]]:
        networks: dict[str, nn.Module] = {}
        rows: list[dict[str, Any]] = []
        for name in self.arguments.models:
            try:
                networks[name] = self._build(MODELS[name])
            except ImportError as error:
                self.left_out.append(f"{MODELS[name].title} is left out: {error}")
                print(self.left_out[-1], file=sys.stderr)
            else:
                rows.append(self._counted(name))
        for setting in self.settings:
            self._announce("models", setting)
            ways = [self._way(MODELS[name], network, setting) for name, network in networks.items()]
            times = take_turns(ways, self.arguments.warm_up + self.frames, self.arguments.warm_up, self.device)
            for row, taken in zip(rows, times, strict=True):
                row["times"][setting.words()] = setting.row() | percentiles(taken, (0, 50, 95, 100))
        return rows

    def _way(self, model: FrameModel, network: nn.Module, setting: Setting) -> Callable[[int], torch.Tensor]:
        prepared = PreparedNetwork(network, setting, self.device)
        frame = torch.rand(1, 3, *self._size(model)).to(self.device)
        return lambda number: prepared(frame)

    def _counted(self, name: str) -> dict[str, Any]:
        model = MODELS[name]
        network = model.build(self.arguments.features, countable=True)
        parameters, with_statistics = count_parameters(network)
        return {
            "model": name,
            "title": model.title,
            "size": list(self._size(model)),
            "parameters": parameters,
            "parameters_with_statistics": with_statistics,
            "flops": count_flops(network, self._size(model)),
            "flops_table_5": count_flops(network, model.counted_size, model.elementwise),
            "paper": {"million": model.million, "gflops": model.gflops, "milliseconds": model.milliseconds},
            "times": {},
        }

    def _stages(self, parts: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """Measure the two stages together."""
        chosen = [MODELS[self.arguments.classifier], MODELS[self.arguments.segmenter]]
        sizes = [self._size(model) for model in chosen]
        try:
            networks = [self._build(model) for model in chosen]
        except ImportError as error:
            raise InputError("--segmenter", str(error), "or choose another") from error
        pictures = self._pictures()
        rows: dict[str, list[dict[str, Any]]] = {part: [] for part in parts}
        for part, setting in product(parts, self.settings):
            self._announce(part, setting)
            prepared = [PreparedNetwork(network, setting, self.device) for network in networks]
            pipeline = TimedPipeline(TwoStage(*prepared, 0.5, *sizes).to(self.device).eval(), self.device)
            measure = self._streams if part == "pipeline" else self._gating
            rows[part] += [{"setting": setting.words()} | setting.row() | row for row in measure(pipeline, pictures)]
        return rows

    def _streams(self, pipeline: TimedPipeline, pictures: Sequence[np.ndarray]) -> Iterator[dict[str, Any]]:
        gates = {"open": 1.0, "closed": 0.0, "measured share": self.arguments.open_share or phantom_share()}
        for gate, share in gates.items():
            source = partial(NewestFrames, self.arguments.frame_rate)
            row = measure_stream(pipeline, pictures, share, self.frames, self.arguments.warm_up, source)
            yield {"gate": gate} | row

    def _gating(self, pipeline: TimedPipeline, pictures: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        return measure_gating(pipeline, pictures, self.arguments.gating_shares, self.frames, self.arguments.warm_up)

    def _pictures(self) -> list[np.ndarray]:
        height, width = self.arguments.frame_size
        phantom = make_video_phantom(0, _PICTURES, _SMALL)
        return [np.array(Image.fromarray(frame).resize((width, height))) for frame in phantom.frames]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the tables.

    Returns:
        0, or 1 after an error, which is one line on stderr.
    """
    typed = list(sys.argv[1:] if argv is None else argv)
    arguments = _arguments(typed)
    try:
        check_outputs(arguments.output)
        benchmark = _Benchmark(arguments)
        if arguments.threads:
            torch.set_num_threads(arguments.threads)
        command = shlex.join(["python", "-m", "tools.benchmark.frames", *typed])
        run = {"command": command, "machine": describe_machine(benchmark.device, arguments.threads)}
        run["load_before"] = load()
        results, about = benchmark.run()
        run |= about | {"load_after": load()}
        report = as_markdown(results, run)
        print(report, end="")
        write_outputs(arguments.output, run | {"results": results}, report)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

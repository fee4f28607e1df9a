"""Frames per second of networks over clips, frame by frame, side by side: ``python -m tools.benchmark.video``.

Each frame of one running video is segmented in every way, one way after the other, so that all see the same load:

- ``clip``: the clip of the last T frames is computed anew for every frame, as a network over clips is used without more
  ado, and its last frame taken.
- ``stream``: each frame is encoded once (:class:`common.inferers.FrameStream`).
- ``stream, no IFA``: the same without what couples frames; of FUnet the masks at 0.5 are the same.

A network that knows nothing of other frames has a stream only. Batch size 1, random weights, on which the time does not
depend; preprocessing and drawing are left out (``python -m tools.stream`` prints these). ``--precision`` and
``--compile`` may name several settings: they are measured one after another, in the same run.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from common.data.video.phantom import make_video_phantom
from common.engines import Precision
from common.errors import InputError
from common.inferers import FrameStream
from tools.benchmark.arguments import OneLineParser, check_outputs, find_device, words, write_outputs
from tools.benchmark.machine import describe_machine, load
from tools.benchmark.report import heading
from tools.benchmark.turns import percentiles, settle, take_turns

__all__ = ["NETWORKS", "Way", "main", "measure", "ways_of"]

_BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "funet"
# By overlay of FUnet's configuration; FUnet itself has none.
NETWORKS = {"funet": "FUnet", "pnsnet": "PNSNet", "unet": "U-Net", "unetplusplus": "U-Net++"}
_REFERENCE = ("funet", "clip")


@dataclass
class Way:
    """One way to segment a running video.

    Args:
        network: a key of ``NETWORKS``.
        way: ``clip``, ``stream`` or ``stream, no IFA``.
        push: from a frame (3, H, W) to its probabilities (1, H, W).
    """

    network: str
    way: str
    push: Callable[[torch.Tensor], torch.Tensor]


class _Clip:
    """Compute the whole clip for every frame."""

    def __init__(self, network: torch.nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        self.network, self.device, self.dtype = network, device, dtype
        self.frames: deque[torch.Tensor] = deque(maxlen=network.frames)

    @torch.no_grad()
    def push(self, frame: torch.Tensor) -> torch.Tensor:
        """Segment the next frame as the last of its clip."""
        self.frames.extend([frame] * (1 if self.frames else self.network.frames))
        clip = torch.stack(list(self.frames))[None]
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            return self.network(clip)[0, -1].float().sigmoid()


def build(name: str, ids: dict[str, Any], device: torch.device) -> torch.nn.Module:
    """Build a network by the bundle's configuration, with random weights.

    Args:
        name: a key of ``NETWORKS``.
        ids: changes to inference.json.
        device: where to.
    """
    overlay = [] if name == "funet" else [str(_BUNDLE / "configs" / f"{name}.json")]
    parser = ConfigParser()
    parser.read_config([str(_BUNDLE / "configs" / "inference.json"), *overlay])
    parser.config |= {"bundle_root": str(_BUNDLE)} | ids
    parser.parse(reset=True)
    torch.manual_seed(0)
    noise = torch.Generator().manual_seed(0)
    clips = (torch.randn(1, 5, 3, *parser["spatial_size"], generator=noise).to(device) for _ in range(2))
    return settle(parser.get_parsed_content("network_def").to(device), clips)


def _compile(network: torch.nn.Module) -> None:
    """Compile what is called for each frame."""
    for method in ("encode_frame", "decode") if hasattr(network, "encode_frame") else ("forward",):
        setattr(network, method, torch.compile(getattr(network, method)))


def ways_of(name: str, network: torch.nn.Module, device: torch.device, dtype: torch.dtype) -> list[Way]:
    """Return the ways in which a network can segment a running video."""
    ways = []
    if hasattr(network, "encode_frame"):
        ways.append(Way(name, "clip", _Clip(network, device, dtype).push))
    ways.append(Way(name, "stream", FrameStream(network, device, dtype=dtype).push))
    if name == "funet":
        ways.append(Way(name, "stream, no IFA", FrameStream(network, device, use_ifa=False, dtype=dtype).push))
    return ways


def measure(
    ways: Sequence[Way], frames: Sequence[torch.Tensor], warm_up: int, device: torch.device
) -> list[list[float]]:
    """Segment each frame in every way.

    Args:
        ways: what is compared.
        frames: (3, H, W) each, on the device.
        warm_up: how many frames at the beginning do not count.
        device: where the networks are; CUDA is waited for.

    Returns:
        For each way the milliseconds of each frame that counts.
    """
    pushes = [lambda number, way=way: way.push(frames[number]) for way in ways]
    return take_turns(pushes, len(frames), warm_up, device)


def differences(name: str, network: torch.nn.Module, frames: Sequence[torch.Tensor]) -> dict[str, float]:
    """Compare each stream's last frame with that of the clip that ends there, in double precision.

    A random network amplifies the rounding of single precision; in double precision what is left is the method's own.

    Returns:
        By way, the largest difference of probabilities; empty for a network that has a stream only.
    """
    if not hasattr(network, "encode_frame"):
        return {}
    running = [frame.double() for frame in frames[: network.frames + 1]]  # one longer than a clip
    found = {}
    network.double()
    with torch.no_grad():
        clip = network(torch.stack(running[1:])[None])[0, -1].sigmoid()
    for way in ways_of(name, network, clip.device, torch.float32):
        if way.way != "clip":
            for frame in running:
                probability = way.push(frame)
            found[way.way] = float((probability - clip).abs().max())
    network.float()
    return found


def row_of(
    way: Way, milliseconds: Sequence[float], difference: float | None, setting: dict[str, Any]
) -> dict[str, Any]:
    """Return a row of the table, without its ratios."""
    spread = percentiles(milliseconds)
    return {
        "network": way.network,
        "way": way.way,
        **setting,
        "frames": len(milliseconds),
        **spread,
        "frames_per_second": 1000 / spread["ms_p50"],
        "difference": difference,
    }


def add_ratios(rows: Sequence[dict[str, Any]]) -> None:
    """Add to each row how many times as fast it is as FUnet's clips and as its own network's, in the same setting."""
    clips = {
        (row["network"], row["precision"], row["compiled"]): row["ms_p50"]
        for row in rows
        if row["way"] == _REFERENCE[1]
    }
    for row in rows:
        setting = row["precision"], row["compiled"]
        for key, network in (("times_funet_clip", _REFERENCE[0]), ("times_own_clip", row["network"])):
            reference = clips.get((network, *setting))
            row[key] = None if reference is None else reference / row["ms_p50"]


def as_markdown(rows: Sequence[dict[str, Any]], run: dict[str, Any]) -> str:
    """Write the table, and what was measured on."""
    lines = [
        *heading(run),
        f"- frames of {run['size'][0]} x {run['size'][1]}, clips of {run['clip_length']}, batch 1; "
        f"{run['frames']} frames, the first {run['warm_up']} left out",
        "",
        "x own: times as fast as the same network's clips; x FUnet: as FUnet's clips, in the same setting. "
        "Difference: of probabilities, from the clip's last frame, in double precision.",
        "",
        "| network | way | precision | compiled | ms p50 | ms p95 | frames/s | x own | x FUnet | difference |",
        "|---|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        cells = [
            NETWORKS[row["network"]], row["way"], row["precision"], "yes" if row["compiled"] else "no",
            f"{row['ms_p50']:.1f}", f"{row['ms_p95']:.1f}", f"{row['frames_per_second']:.2f}",
            *("" if row[key] is None else f"{row[key]:.2f}" for key in ("times_own_clip", "times_funet_clip")),
            "" if row["difference"] is None else f"{row['difference']:.1e}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = OneLineParser("tools.benchmark.video", __doc__)
    parser.add_argument(
        "--networks", type=words(list(NETWORKS)), default=["funet", "pnsnet", "unet"], help=",".join(NETWORKS)
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument(
        "--precision", type=words(["fp32", "bf16", "fp16"]), default=["fp32"], help="one or more of fp32,bf16,fp16"
    )
    parser.add_argument("--compile", type=words(["no", "yes"]), default=["no"], help="no, yes or no,yes")
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--warm_up", type=int, default=5)
    parser.add_argument("--spatial_size", type=int, nargs=2, help="height and width; default: the bundle's")
    parser.add_argument("--unet_features", type=int, nargs="+", help="FUnet's; default: the bundle's")
    parser.add_argument("--threads", type=int, help="of PyTorch on the CPU")
    parser.add_argument("--output", nargs="+", type=Path, default=[], help="files to write: .json or .md")
    return parser.parse_args(argv)


def _benchmark(arguments: argparse.Namespace, command: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    if not 0 <= arguments.warm_up < arguments.frames:
        raise InputError(f"--frames {arguments.frames}", "leaves nothing after the warm-up", "pass more frames")
    device = find_device(arguments.device)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    given = {"spatial_size": arguments.spatial_size, "unet_features": arguments.unet_features, "device": str(device)}
    ids = {name: value for name, value in given.items() if value is not None}
    parser = ConfigParser()
    parser.read_config(str(_BUNDLE / "configs" / "inference.json"))
    if arguments.frames <= parser["frames"]:
        raise InputError(f"--frames {arguments.frames}", "is no more than a clip has", "pass more frames")
    size = ids.get("spatial_size", parser["spatial_size"])
    pictures = torch.from_numpy(make_video_phantom(0, arguments.frames, tuple(size)).frames)
    frames = ((pictures.permute(0, 3, 1, 2).float() / 255 - 0.45) / 0.225).to(device)
    run = {
        "command": command, "machine": describe_machine(device, arguments.threads), "load_before": load(),
        "size": list(size), "clip_length": parser["frames"], "frames": arguments.frames, "warm_up": arguments.warm_up,
    }  # fmt: skip
    networks = {name: build(name, ids, device) for name in arguments.networks}
    apart = {name: differences(name, network, list(frames)) for name, network in networks.items()}
    rows = []
    for compiled in sorted(word == "yes" for word in arguments.compile):
        if compiled:
            for network in networks.values():
                _compile(network)
        for precision in arguments.precision:
            print(f"{precision}, compiled: {compiled}", file=sys.stderr, flush=True)
            dtype = Precision(precision, device).dtype
            ways = [way for name, network in networks.items() for way in ways_of(name, network, device, dtype)]
            setting = {"precision": precision, "compiled": compiled}
            for way, times in zip(ways, measure(ways, list(frames), arguments.warm_up, device), strict=True):
                rows.append(row_of(way, times, apart[way.network].get(way.way), setting))
    add_ratios(rows)
    return rows, run | {"load_after": load()}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table.

    Returns:
        0, or 1 after an error, which is one line on stderr.
    """
    typed = list(sys.argv[1:] if argv is None else argv)
    arguments = _arguments(typed)
    try:
        check_outputs(arguments.output)
        rows, run = _benchmark(arguments, shlex.join(["python", "-m", "tools.benchmark.video", *typed]))
        report = as_markdown(rows, run)
        print(report, end="")
        write_outputs(arguments.output, run | {"rows": rows}, report)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

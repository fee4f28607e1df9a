"""Make a network's fixed-shape parts faster: compiled, and replayed as CUDA graphs."""

from __future__ import annotations

import torch

from common.errors import InputError
from tools.stream.cuda_graph import GraphedStage

__all__ = ["accelerate"]


def accelerate(network: torch.nn.Module, device: torch.device, compiled: bool, graphed: bool) -> None:
    """Replace, in place, the parts of a network that are called with the same shapes for every frame.

    They are ``encode_frame`` and ``decode`` of networks over clips, the classifier and the segmenter of a two-stage
    network (what lies between them depends on the frame), and the whole of any other.

    Args:
        network: to be made faster.
        device: where it runs.
        compiled: compile the parts with ``torch.compile``; the first frames then take long.
        graphed: capture each part as a CUDA graph, which spares the CPU the launching of its kernels.

    Raises:
        InputError: CUDA graphs are asked for where there is no CUDA.
    """
    if graphed and device.type != "cuda":
        raise InputError("--cuda_graphs", f"needs CUDA, and the network runs on {device.type}", "leave it out")
    for owner, name in _parts(network):
        part = getattr(owner, name)
        if compiled:
            part = torch.compile(part)
        if graphed:
            part = GraphedStage(part, device)
        setattr(owner, name, part)


def _parts(network: torch.nn.Module) -> list[tuple[torch.nn.Module, str]]:
    if hasattr(network, "encode_frame"):
        return [(network, "encode_frame"), (network, "decode")]
    if hasattr(network, "segment_where"):
        return [(network.classifier, "forward"), (network.segmenter, "forward")]
    return [(network, "forward")]

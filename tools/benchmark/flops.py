"""What a network costs by count: parameters and floating point operations."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

__all__ = ["count_flops", "count_parameters"]


def count_parameters(network: nn.Module) -> tuple[int, int]:
    """Count a network's parameters.

    Returns:
        The trainable ones, and these with the running means and variances of batch normalization, which Keras counts
        among a model's parameters.
    """
    trainable = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    statistics = sum(
        part.running_mean.numel() + part.running_var.numel()
        for part in network.modules()
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None
    )
    return trainable, trainable + statistics


@torch.no_grad()
def count_flops(network: nn.Module, size: Sequence[int], elementwise: bool = False) -> int:
    """Count the operations for one frame, 2 for each multiplication with its addition, without computing anything.

    Args:
        network: maps frames (1, 3, H, W); it is moved to the meta device, and its weights are gone.
        size: height and width of the frame.
        elementwise: count also one operation for each bias that is added to an output of a convolution and for each
            output of a ReLU, as a profiler of graphs does; otherwise convolutions and products of matrices alone.
    """
    mapping = {}
    if elementwise:
        aten = torch.ops.aten
        mapping = {aten.convolution: _convolution, aten.relu: _relu, aten.relu_: _relu}
    frame = torch.empty(1, 3, *size, device="meta")
    network = network.to("meta").eval()
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        network(frame)
    return counter.get_total_flops()


def _convolution(
    x: Sequence[int],
    weight: Sequence[int],
    bias: Sequence[int] | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    *arguments: Any,
    out_shape: Sequence[int],
    **keywords: Any,
) -> int:
    added = 0 if bias is None else prod(out_shape)
    return conv_flop_count(x, weight, out_shape, transposed=transposed) + added


def _relu(x: Sequence[int], *arguments: Any, out_shape: Sequence[int], **keywords: Any) -> int:
    return prod(out_shape)

"""A state dict with the names and shapes of the published ImageNet weights of SE-ResNeXt-50 (32x4d)."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def published_weights(blocks: Sequence[int] = (3, 4, 6, 3), seed: int = 0) -> dict[str, torch.Tensor]:
    """Random tensors; without the counts of batches, as the file is of an early version of PyTorch."""
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, torch.Tensor] = {}

    def conv(name: str, *shape: int, bias: bool = False) -> None:
        weights[f"{name}.weight"] = 0.05 * torch.randn(shape, generator=generator)
        if bias:
            weights[f"{name}.bias"] = 0.05 * torch.randn(shape[0], generator=generator)

    def norm(name: str, channels: int) -> None:
        for kind in ("weight", "bias", "running_mean", "running_var"):
            weights[f"{name}.{kind}"] = 0.5 + torch.rand(channels, generator=generator)

    conv("layer0.conv1", 64, 3, 7, 7)
    norm("layer0.bn1", 64)
    channels = 64
    for stage, (out_channels, number) in enumerate(zip((256, 512, 1024, 2048), blocks, strict=True), start=1):
        inner = out_channels // 2
        for block in (f"layer{stage}.{i}" for i in range(number)):
            conv(f"{block}.conv1", inner, channels, 1, 1)
            conv(f"{block}.conv2", inner, inner // 32, 3, 3)
            conv(f"{block}.conv3", out_channels, inner, 1, 1)
            for i, size in enumerate((inner, inner, out_channels), start=1):
                norm(f"{block}.bn{i}", size)
            conv(f"{block}.se_module.fc1", out_channels // 16, out_channels, 1, 1, bias=True)
            conv(f"{block}.se_module.fc2", out_channels, out_channels // 16, 1, 1, bias=True)
            if block.endswith(".0"):
                conv(f"{block}.downsample.0", out_channels, channels, 1, 1)
                norm(f"{block}.downsample.1", out_channels)
            channels = out_channels
    conv("last_linear", 1000, 2048, bias=True)
    return weights

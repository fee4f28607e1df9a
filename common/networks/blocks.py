"""Small pieces that more than one network of the collection is built from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution

__all__ = ["check_input", "conv_norm_act"]


def check_input(x: torch.Tensor, network: str, channels: int, divisors: list[int]) -> None:
    """Refuse a tensor that a network cannot take; works in eager mode, TorchScript and ``torch.export``.

    Args:
        x: what the network was called with.
        network: the network's name, for the message.
        channels: how many channels the network takes.
        divisors: for each spatial axis what its size must be a multiple of; 1 where any size will do.

    Raises:
        ValueError: the rank, the number of channels or a spatial size is another one; the message says which shape
            was expected and which one came.
    """
    spatial_dims = len(divisors)
    fits = x.dim() == spatial_dims + 2 and x.shape[1] == channels
    if fits:
        for axis in range(spatial_dims):
            if x.shape[axis + 2] % divisors[axis] != 0:
                fits = False
    if not fits:
        raise ValueError(
            f"{network} expects an input of shape (batch, {channels}, {spatial_dims} spatial axes) "
            f"with spatial sizes that are multiples of {divisors}, got shape {list(x.shape)}"
        )


def conv_norm_act(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    kernel_size: Sequence[int] | int = 3,
    strides: Sequence[int] | int = 1,
    dilation: Sequence[int] | int = 1,
    norm: tuple | str | None = "batch",
    act: tuple | str | None = ("relu", {"inplace": True}),
) -> Convolution:
    """Convolution, normalization, activation ("CBR" in the papers), padded so that stride 1 keeps the size.

    The convolution has a bias only where no normalization follows: one that does takes any constant away again.

    Args:
        spatial_dims: number of spatial axes, 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: of the convolution, one number or one an axis.
        strides: of the convolution, one number or one an axis.
        dilation: of the convolution, one number or one an axis.
        norm: normalization type and arguments as MONAI's ``Norm`` factory takes them, ``None`` for none.
        act: activation type and arguments as MONAI's ``Act`` factory takes them, ``None`` for none.
    """
    return Convolution(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=kernel_size,
        strides=strides,
        dilation=dilation,
        norm=norm,
        act=act,
        bias=norm is None,
    )

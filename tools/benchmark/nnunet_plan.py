"""What nnU-Net would train for a set of volumes: spacing, patch, strides and kernels of its 3D U-Net."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["NetworkPlan", "is_anisotropic", "make_plan", "plan_network", "target_spacing"]

_SMALLEST_MAP = 4  # no axis of a feature map is halved below this
_FIRST_FEATURES, _MOST_FEATURES = 32, 320
_ANISOTROPIC = 3.0
_START_VOXELS = 256**3  # of the isotropic patch that planning starts from
_FEATURE_BUDGET = 560e6  # numbers in the feature maps of one patch that 8 GB hold in training at batch size 2


@dataclass(frozen=True)
class NetworkPlan:
    """A 3D U-Net and the grid that it works on. Axes: the one of the largest spacing first.

    Attributes:
        spacing: of the grid, mm.
        patch: voxels of one pass.
        strides: of each stage's first convolution; the first stage has 1, 1, 1.
        kernels: of each stage's convolutions.
        features: channels of each stage.
    """

    spacing: tuple[float, ...]
    patch: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    features: tuple[int, ...]

    @property
    def divisor(self) -> tuple[int, ...]:
        """What the sizes of an input must be multiples of."""
        return tuple(int(n) for n in np.prod(self.strides, axis=0))

    def network(self, in_channels: int, out_channels: int | str) -> dict[str, Any]:
        """Return the configuration of MONAI's ``DynUNet`` with this plan, as it is at inference.

        Args:
            in_channels: channels of the input.
            out_channels: classes, the background included; or a reference of a configuration.
        """
        return {
            "_target_": "DynUNet",
            "spatial_dims": 3,
            "in_channels": in_channels,
            "out_channels": out_channels,
            "kernel_size": [list(kernel) for kernel in self.kernels],
            "strides": [list(stride) for stride in self.strides],
            "upsample_kernel_size": [list(stride) for stride in self.strides[1:]],
            "filters": list(self.features),
            "norm_name": ["INSTANCE", {"affine": True}],
            "act_name": ["leakyrelu", {"inplace": True, "negative_slope": 0.01}],
            "deep_supervision": False,
        }


def is_anisotropic(spacing: Sequence[float]) -> bool:
    """Tell whether the largest spacing is more than three times the smallest (nnU-Net's bound)."""
    return max(spacing) / min(spacing) > _ANISOTROPIC


def target_spacing(spacings: Sequence[Sequence[float]], shapes: Sequence[Sequence[int]]) -> tuple[float, ...]:
    """Return the spacing that all volumes are resampled to.

    The median along each axis. Where one axis is anisotropic in spacing and in voxels (more than three times as few),
    its 10th percentile, lest the volumes with thin slices lose too much.

    Args:
        spacings: of each volume, mm, the largest spacing first.
        shapes: of each volume, in the same order of axes.
    """
    target = np.median(spacings, axis=0)
    size = np.median(shapes, axis=0)
    if target[0] > _ANISOTROPIC * target[1:].max() and _ANISOTROPIC * size[0] < size[1:].min():
        target[0] = max(np.percentile(np.asarray(spacings)[:, 0], 10), target[1:].max())
    return tuple(float(value) for value in target)


def plan_network(spacing: Sequence[float], patch: Sequence[int]) -> NetworkPlan:
    """Lay out the network for a patch.

    From one stage to the next, those axes are halved whose spacing is less than twice the smallest and which stay 4
    voxels or longer; the others keep their size until the rest has caught up. An axis of thick slices thus has stride 1
    first. Its kernels are 1 first, too, and 3 from the stage on where its spacing is less than twice the smallest. A
    single axis is halved only from 12 voxels on. Features double from 32 to 320. The patch grows to the next multiple
    of what its axes are divided by.

    Args:
        spacing: of the grid, mm.
        patch: voxels.
    """
    step, size = np.asarray(spacing, dtype=float), np.asarray(patch, dtype=int)
    kernel = np.ones(len(step), dtype=int)
    strides, kernels = [np.ones(len(step), dtype=int)], []
    while True:
        able = size >= 2 * _SMALLEST_MAP
        if able.any():
            able &= step < 2 * step[able].min()
        if not able.any() or (able.sum() == 1 and size[able][0] < 3 * _SMALLEST_MAP):
            break
        kernel = np.where(step < 2 * step.min(), 3, kernel)
        kernels.append(kernel)
        stride = np.where(able, 2, 1)
        strides.append(stride)
        step, size = step * stride, -(-size // stride)
    kernels.append(np.full(len(step), 3))  # the lowest stage
    divisor = np.prod(strides, axis=0)
    return NetworkPlan(
        tuple(float(value) for value in spacing),
        tuple(int(n) for n in -(-np.asarray(patch) // divisor) * divisor),
        tuple(tuple(int(n) for n in stride) for stride in strides),
        tuple(tuple(int(n) for n in kernel) for kernel in kernels),
        tuple(min(_FIRST_FEATURES * 2**stage, _MOST_FEATURES) for stage in range(len(strides))),
    )


def make_plan(spacing: Sequence[float], shape: Sequence[int], num_classes: int) -> NetworkPlan:
    """Plan patch and network for volumes of a size, as nnU-Net plans its configuration ``3d_fullres``.

    Source: Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation",
    Nature Methods 18 (2021), 203-211, Supplementary Note 2; the numbers are those of its version 2 (8 GB).

    The patch starts as a cube in mm of 256^3 voxels, cut to the volumes' size. While its feature maps would not fit
    into memory, the axis that is longest for the size of the volumes becomes shorter by one step of its divisor.

    Args:
        spacing: that the volumes are resampled to, mm, the largest first.
        shape: their median size at this spacing.
        num_classes: classes, the background included.
    """
    step, size = np.asarray(spacing, dtype=float), np.asarray(shape, dtype=int)
    patch = np.round((_START_VOXELS * step.prod()) ** (1 / len(step)) / step).astype(int)
    plan = plan_network(spacing, np.minimum(patch, size))
    while _feature_numbers(plan, num_classes) > _FEATURE_BUDGET:
        longest = int(np.argsort(np.asarray(plan.patch) / size, kind="stable")[-1])
        patch = np.asarray(plan.patch)
        patch[longest] -= plan.divisor[longest]
        # What the shorter patch is divided by may be less: take the step again with that.
        patch[longest] += plan.divisor[longest] - plan_network(spacing, patch).divisor[longest]
        plan = plan_network(spacing, patch)
    return plan


def _feature_numbers(plan: NetworkPlan, num_classes: int) -> float:
    """Count the outputs of all convolutions: two a stage on the way down, three on the way up, and the classes."""
    numbers, size = 0.0, np.asarray(plan.patch, dtype=float)
    for stage, (stride, features) in enumerate(zip(plan.strides, plan.features, strict=True)):
        size = size / stride
        convolutions = 2 if stage == len(plan.strides) - 1 else 5
        numbers += convolutions * features * size.prod()
    return numbers + num_classes * math.prod(plan.patch)

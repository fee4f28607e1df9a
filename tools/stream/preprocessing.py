"""A bundle's preprocessing of a frame, on the device where that gives the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, Resized
from monai.utils import ensure_tuple

from common.inferers.device_frames import DeviceFrames
from common.transforms import FramesFirstd, LoadClipd, NormalizeFramesd

__all__ = ["frame_preprocessing"]


def frame_preprocessing(
    transforms: Callable[[dict[str, Any]], dict[str, Any]], device: torch.device
) -> Callable[[np.ndarray], torch.Tensor]:
    """Return what makes a frame, uint8 (H, W, 3), into the network's input (3, h, w) on ``device``.

    A chain of ``LoadClipd``, ``Resized`` (bilinear; it may be missing), ``NormalizeFramesd`` and ``FramesFirstd`` is
    done by :class:`common.inferers.DeviceFrames`, which gives the same numbers sooner. Any other is applied as it is.

    Args:
        transforms: of the bundle, on the key ``image``, for a clip.
        device: where the network runs.
    """
    on_device = _device_frames(transforms, device)
    if on_device is not None:
        return on_device
    return lambda image: transforms({"image": [image]})["image"].as_tensor()[0].to(device)


def _device_frames(transforms: object, device: torch.device) -> DeviceFrames | None:
    if type(transforms) is not Compose or transforms.lazy or transforms.overrides:
        return None
    chain = list(transforms.transforms)
    resized = chain.pop(1) if len(chain) == 4 else None
    if [type(part) for part in chain] != [LoadClipd, NormalizeFramesd, FramesFirstd]:
        return None
    load, normalize, frames = chain
    on_image = load.image_key == "image" and normalize.keys == frames.keys == ("image",) and frames.channels == (3,)
    if not on_image or (resized is not None and not _is_plain(resized)):
        return None
    size = None if resized is None else ensure_tuple(resized.resizer.spatial_size)
    mean, std = ((part.double().flatten() / 255).tolist() for part in (normalize.mean, normalize.std))
    return DeviceFrames(size, mean, std, device)


def _is_plain(resized: object) -> bool:
    """Return whether this is a bilinear resize to a given size and nothing else."""
    if type(resized) is not Resized or resized.lazy or resized.resizer.size_mode != "all":
        return False
    size = ensure_tuple(resized.resizer.spatial_size)
    return (
        resized.keys == ("image",)
        and len(size) == 2
        and min(size) > 0  # -1 stands for the frame's own side
        and resized.mode == ("bilinear",)
        and resized.align_corners[0] in (None, False)
        and not resized.anti_aliasing[0]
        and resized.dtype[0] in (np.float32, torch.float32, None)
    )

"""Clips of video frames as MONAI's 2D transforms take them.

A clip is loaded as one image whose channels are the frames' colours one after another, (T * 3, H, W), and its masks
as (T, H, W): so every spatial transform of MONAI, random ones too, treats all frames of a clip alike.
:class:`FramesFirstd` gives the frames an axis of their own at the end.

Pictures keep the axes that video decoders, Pillow and the networks here have: rows first, then columns. MONAI's
``LoadImaged`` turns PNG and JPEG to columns first, as for medical volumes; with
``reader=PILReader(reverse_indexing=False, converter=...)`` it gives the same as :class:`LoadClipd` does for one frame.
Between loading and :class:`FramesFirstd`, nothing here depends on which of the two axes comes first.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import (
    CenterSpatialCrop,
    InvertibleTransform,
    MapTransform,
    NormalizeIntensity,
    Randomizable,
    Resize,
)
from monai.utils import ensure_tuple_rep
from PIL import Image

from common.data.video.frame_image import read_image
from common.data.video.layouts import FrameReference
from common.data.video.source import read_frames
from common.errors import InputError

__all__ = ["FrameToPictured", "FramesFirstd", "LoadClipd", "NormalizeFramesd", "RandSideCropd"]

# Mean and standard deviation of red, green and blue, of values in 0..1.
_STATISTICS = {"imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))}


class LoadClipd(MapTransform):
    """Load a clip's frames and masks.

    Args:
        image_key: where the frames are: a list of T picture files, (video file, frame number) or pictures (uint8 RGB,
            (H, W, 3)); or one of the first two by itself, which is a single frame and no clip. They become a MetaTensor
            (T * 3, H, W), float32, 0..255, whose ``meta`` has ``filename_or_obj`` (the first frame's file),
            ``spatial_shape`` and ``is_clip``.
        label_key: where the references to the masks are; they become a MetaTensor (T, H, W), float32, 0 and 1.
        label_rule: what is foreground: ``255``, that value only, as PNS-Net's training has it, or ``> 128``, as its
            evaluation has it. Compressed masks (JPEG, most videos) lose foreground by the former. In the mask of a
            single frame, which only host applications hand over, 1 counts too: their masks carry a label's value.
        allow_missing_keys: an item may lack the masks.

    Raises:
        InputError: a picture cannot be read, the frames of a clip differ in size, a mask differs from its frame, or a
            clip's mask is written in 0 and 1.
        ValueError: ``label_rule`` is neither of the two.
    """

    def __init__(
        self,
        image_key: str = "image",
        label_key: str = "label",
        label_rule: str = "> 128",
        allow_missing_keys: bool = False,
    ) -> None:
        if label_rule not in ("255", "> 128"):
            raise ValueError(f"label_rule must be '255' or '> 128', got {label_rule!r}")
        super().__init__((image_key, label_key), allow_missing_keys)
        self.image_key, self.label_key, self.label_rule = image_key, label_key, label_rule

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        loaded = {key: _references(d[key]) for key in self.key_iterator(d)}
        is_clip = {key: isinstance(d[key], list) for key in loaded}
        pictures = {key: _read(references) for key, references in loaded.items()}
        if self.image_key in pictures:
            frames, references = pictures[self.image_key], loaded[self.image_key]
            for reference, frame in zip(references, frames, strict=True):
                if frame.shape != frames[0].shape:
                    problem = f"is {_size(frame)}, the first frame of its clip {_size(frames[0])}"
                    raise InputError(_name(reference), problem, "give all frames of a sequence one size")
            colours = np.concatenate([np.moveaxis(frame, -1, 0) for frame in frames])
            d[self.image_key] = _tensor(colours, references[0], is_clip[self.image_key])
        if self.label_key in pictures:
            masks, references = pictures[self.label_key], loaded[self.label_key]
            if self.image_key in pictures:
                self._check_sizes(pictures, loaded)
            clip = is_clip[self.label_key]
            drawn = [self._foreground(mask, ref, clip) for mask, ref in zip(masks, references, strict=True)]
            d[self.label_key] = _tensor(np.stack(drawn), references[0], clip)
        return d

    def _check_sizes(
        self, pictures: Mapping[Hashable, list[np.ndarray]], loaded: Mapping[Hashable, list[FrameReference]]
    ) -> None:
        frames, masks = (pictures[key] for key in (self.image_key, self.label_key))
        if len(frames) != len(masks):
            name = _name(loaded[self.image_key][0])
            raise InputError(
                name, f"begins a clip of {len(frames)} frames with {len(masks)} masks", "give each one mask"
            )
        for index, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
            if frame.shape != mask.shape:
                problem = f"is {_size(mask)}, its frame {_name(loaded[self.image_key][index])} {_size(frame)}"
                raise InputError(_name(loaded[self.label_key][index]), problem, "draw the mask on its own frame")

    def _foreground(self, mask: np.ndarray, reference: FrameReference, is_clip: bool) -> np.ndarray:
        grey = np.asarray(Image.fromarray(mask).convert("L"))
        if grey.max() == 1:
            if not is_clip:
                return grey == 1
            raise InputError(
                _name(reference), "is written in 0 and 1, which counts as empty", "write foreground as 255"
            )
        return grey == 255 if self.label_rule == "255" else grey > 128


def _references(value: Any) -> list[FrameReference]:
    """Return the references of a clip, or its pictures; a list that came from JSON has lists instead of pairs."""
    if isinstance(value, str | Path):
        return [str(value)]
    if isinstance(value, tuple):
        return [(str(value[0]), int(value[1]))]
    if isinstance(value[0], np.ndarray):
        return list(value)
    return [str(part) if isinstance(part, str | Path) else (str(part[0]), int(part[1])) for part in value]


def _read(references: Sequence[FrameReference]) -> list[np.ndarray]:
    """Read pictures, each once, the frames of one video together."""
    if isinstance(references[0], np.ndarray):
        return list(references)
    videos: dict[str, list[int]] = {}
    for reference in references:
        if not isinstance(reference, str) and reference[1] not in videos.setdefault(reference[0], []):
            videos[reference[0]].append(reference[1])
    found: dict[FrameReference, np.ndarray] = {}
    for video, indices in videos.items():
        found |= {(video, frame.index): frame.image for frame in read_frames(video, indices)}
    for reference in references:
        if reference not in found:
            found[reference] = read_image(reference)
    return [found[reference] for reference in references]


def _tensor(values: np.ndarray, reference: FrameReference | np.ndarray, is_clip: bool) -> MetaTensor:
    meta = {"spatial_shape": np.array(values.shape[1:]), "is_clip": is_clip}
    if not isinstance(reference, np.ndarray):
        meta["filename_or_obj"] = reference if isinstance(reference, str) else reference[0]
    return MetaTensor(torch.from_numpy(values.astype(np.float32)), meta=meta)


def _name(reference: FrameReference | np.ndarray) -> str:
    if isinstance(reference, np.ndarray):
        return "a picture of the clip"
    return reference if isinstance(reference, str) else f"{reference[0]} (frame {reference[1]})"


def _size(picture: np.ndarray) -> str:
    return f"{picture.shape[1]} x {picture.shape[0]}"


class RandSideCropd(Randomizable, MapTransform):
    """Cut the same random number of pixels from left and right, another from top and bottom, and resize back.

    This is PNS-Net's random crop (Ji et al., MICCAI 2021): up to 15 pixels for single images, up to 7 for clips. One
    draw serves all channels and keys.

    Args:
        keys: (C, H, W), all of one height and width.
        max_pixels: the most that is cut from a side; each number from 0 on is as likely.
        mode: interpolation, one for all keys or one each.
        allow_missing_keys: skip keys that an item lacks.

    Raises:
        ValueError: ``max_pixels`` is negative, or leaves nothing of an image.
    """

    def __init__(
        self,
        keys: KeysCollection,
        max_pixels: int,
        mode: str | Sequence[str] = "bilinear",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.max_pixels = int(max_pixels)
        if self.max_pixels < 0:
            raise ValueError(f"max_pixels must not be negative, got {max_pixels}")
        self.mode = ensure_tuple_rep(mode, len(self.keys))
        self._cut = (0, 0)

    def randomize(self, data: Any = None) -> None:
        """Draw how much is cut from the rows' and from the columns' ends."""
        self._cut = (int(self.R.randint(self.max_pixels + 1)), int(self.R.randint(self.max_pixels + 1)))

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        d = dict(data)
        self.randomize()
        for key, mode in self.key_iterator(d, self.mode):
            size = tuple(d[key].shape[1:])
            if min(size) <= 2 * self.max_pixels:
                raise ValueError(f"max_pixels {self.max_pixels} leaves nothing of {size[0]} x {size[1]} pixels")
            if any(self._cut):
                rest = [side - 2 * cut for side, cut in zip(size, self._cut, strict=True)]
                d[key] = Resize(size, mode=mode)(CenterSpatialCrop(rest)(d[key]))
        return d


class NormalizeFramesd(MapTransform):
    """Bring colours from 0..255 to 0..1, subtract their mean and divide by their standard deviation.

    Args:
        keys: (T * 3, H, W), channels red, green, blue of each frame.
        normalize: ``imagenet`` (the statistics that pre-trained encoders know), ``none`` (0..1, which is what PNS-Net's
            training does in effect, as its own statistics only reach three columns of pixels), or two lists of three
            numbers: mean and standard deviation, of values in 0..1.
        allow_missing_keys: skip keys that an item lacks.

    Raises:
        ValueError: ``normalize`` is none of these, or the channels are not whole frames.
    """

    def __init__(
        self,
        keys: KeysCollection,
        normalize: str | Sequence[Sequence[float]] = "imagenet",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        statistics = _STATISTICS.get(normalize) if isinstance(normalize, str) else normalize
        if statistics is None or [len(part) for part in statistics] != [3, 3]:
            raise ValueError(f"normalize must be {' or '.join(_STATISTICS)} or two lists of three, got {normalize!r}")
        self.mean, self.std = (255 * torch.tensor(part, dtype=torch.float32).reshape(3, 1, 1) for part in statistics)
        if (self.std <= 0).any():
            raise ValueError(f"a standard deviation is positive, got {normalize!r}")

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        d = dict(data)
        for key in self.key_iterator(d):
            frames, rest = divmod(len(d[key]), 3)
            if rest or not frames:
                raise ValueError(f"expected frames of 3 channels, got {len(d[key])} channels")
            # Whole tensors: MONAI's channel_wise writes into its input.
            mean, std = (part.repeat(frames, 1, 1) for part in (self.mean, self.std))
            d[key] = NormalizeIntensity(subtrahend=mean, divisor=std)(d[key])
        return d


class FramesFirstd(MapTransform, InvertibleTransform):
    """Give the frames of a clip an axis of their own: (T * C, H, W) becomes (T, C, H, W).

    A single frame (:class:`LoadClipd`) stays (C, H, W), which networks over clips take for a clip of itself. The
    inverse takes the axis away from predictions: (T, C, H, W) becomes (T * C, H, W), whatever C is.

    Args:
        keys: images, masks or both.
        channels: C, one for all keys or one each: 3 for images, 1 for masks.
        allow_missing_keys: skip keys that an item lacks.

    Raises:
        ValueError: the channels are not whole frames.
    """

    def __init__(
        self, keys: KeysCollection, channels: int | Sequence[int] = 3, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.channels = ensure_tuple_rep(channels, len(self.keys))

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        d = dict(data)
        for key, channels in self.key_iterator(d, self.channels):
            if len(d[key]) % channels:
                raise ValueError(f"expected frames of {channels} channels, got {len(d[key])} channels")
            if getattr(d[key], "meta", {}).get("is_clip", True):
                d[key] = d[key].reshape(-1, channels, *d[key].shape[1:])
        return d

    def inverse(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Put the frames' channels one after another again."""
        d = dict(data)
        for key in self.key_iterator(d):
            if d[key].ndim == 4:
                d[key] = d[key].flatten(0, 1)
        return d


class FrameToPictured(MapTransform):
    """Hand the mask of a single frame over as host applications keep pictures: (1, H, W) becomes (W, H).

    MONAI reads pictures columns first, and MONAI Label writes what it is given that way: it takes no axis of channels
    for a picture, and enlarges what has not the size that the frame's ``spatial_shape`` states, so that is turned too.
    Masks of clips stay as they are.

    Args:
        keys: masks, each with the rows and columns of the frame's file.
        orig_key: the frame or clip as the preprocessing left it (:class:`LoadClipd` first).
        allow_missing_keys: skip keys that an item lacks.
    """

    def __init__(self, keys: KeysCollection, orig_key: str = "image", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.orig_key = orig_key

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        d = dict(data)
        frame = d[self.orig_key]
        if frame.meta["is_clip"]:
            return d
        for key in self.key_iterator(d):
            d[key] = d[key][0].T.contiguous()
        meta = frame.meta | {"spatial_shape": frame.meta["spatial_shape"][::-1]}
        d[self.orig_key] = MetaTensor(frame.as_tensor(), meta=meta)
        return d

"""Evaluations on video with a network that takes what is bright for the nerve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import DataLoader, Dataset, IterableDataset
from monai.engines import SupervisedEvaluator
from monai.transforms import Activationsd, AsDiscreted, Compose, CopyItemsd, Invertd, Resized, ToTensord
from torch import nn

from common.data.video import ClipStream, Frame, open_source
from common.data.video.windows import scoring_windows
from common.transforms import FramesFirstd, LoadClipd, NormalizeFramesd

GRID = (24, 40)  # of the network
SIZE = (48, 64)  # of the pictures: another, with other proportions
LEVEL = 0.503  # what is brighter is nerve; no mean of few pictures' pixels is just that, so rounding decides nothing


class BrightIsNerve(nn.Module):
    """Logits (B, T, 1, H, W) of clips (B, T, 3, H, W) in 0..1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 12 * (x.mean(dim=2, keepdim=True) - LEVEL)


class PatchIsTissue(nn.Module):
    """Logits (B, 1) of tissue being in sight in frames (B, 3, H, W) in 0..1: wherever anything is bright."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 5 * (x.amax(dim=[1, 2, 3]) - 0.5)[:, None]


def scene(count: int, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    """Pictures in which a bright patch moves and grows; it is in none of each seventh picture."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    pictures = []
    for index in range(count):
        distance = np.hypot(rows - size[0] * 0.5, columns - 10 - index * 3 % (size[1] - 20))
        shade = 225 - 12 * np.abs(distance - index % 5) if index % 7 != 6 else np.full(size, 20)
        pictures.append(np.clip(shade, 20, 225).astype(np.uint8)[..., None].repeat(3, axis=2))
    return pictures


def probabilities_of(picture: np.ndarray) -> torch.Tensor:
    """What the network has to give for one picture, (1, 1, H, W) on its grid."""
    pixels = torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None]
    small = F.interpolate(pixels, GRID, mode="bilinear", align_corners=False)
    return torch.sigmoid(12 * (small.mean(dim=1, keepdim=True) / 255 - LEVEL))


def mask_of(picture: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """The mask of one picture on its own grid, 0 and 255."""
    full = F.interpolate(probabilities_of(picture), picture.shape[:2], mode="bilinear", align_corners=False)
    return np.where(full[0, 0].numpy() >= threshold, 255, 0).astype(np.uint8)


def preprocessing(label: bool) -> Compose:
    keys, channels = (["image", "label"], [3, 1]) if label else (["image"], [3])
    return Compose(
        [
            LoadClipd(allow_missing_keys=not label),
            Resized("image", GRID, mode="bilinear"),
            NormalizeFramesd("image", "none"),
            FramesFirstd(keys, channels),
            *([ToTensord(["frames", "keep"])] if label else []),
        ]
    )


def evaluator(
    data: ClipStream | Sequence[Mapping[str, Any]],
    handlers: Iterable[Any] = (),
    network: nn.Module | None = None,
    threshold: float = 0.5,
    **kwargs: Any,
) -> SupervisedEvaluator:
    """Make what a bundle's configuration makes, for running video or for clips with masks."""
    running = isinstance(data, ClipStream)
    before = preprocessing(label=not running)
    after = Compose(
        [
            Activationsd("pred", sigmoid=True),
            CopyItemsd("pred", names="prob"),
            Invertd("pred", before, orig_keys="image", nearest_interp=False),
            AsDiscreted("pred", threshold=threshold, dtype=torch.uint8),
        ]
    )
    dataset = (IterableDataset if running else Dataset)(data, before)
    return SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(dataset, batch_size=1),
        network=network or BrightIsNerve(),
        postprocessing=after,
        val_handlers=list(handlers),
        **kwargs,
    )


def labelled_clips(sequences: Sequence[tuple[list[np.ndarray], list[np.ndarray]]], length: int) -> list[dict[str, Any]]:
    """Cut sequences of pictures and masks into the clips that are scored."""
    return [
        {
            "image": [pictures[frame] for frame in window.frames],
            "label": [masks[frame][..., None].repeat(3, axis=2) for frame in window.frames],
            "sequence_number": number,
            "frames": list(window.frames),
            "keep": list(window.keep),
        }
        for number, (pictures, masks) in enumerate(sequences)
        for window in scoring_windows(len(pictures), length)
    ]


def frames_of(path: Path) -> list[Frame]:
    """All frames of a video or of a folder of frames."""
    with open_source(path) as source:
        return list(source)


def write_bundle(folder: Path) -> Path:
    """Write what a provenance needs of a bundle: its metadata, and some weights."""
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "metadata.json").write_text('{"bundle": "some_net", "version": "1.2.3"}', encoding="utf-8")
    (folder / "model.pt").write_bytes(b"weights")
    return folder

"""Read the frame and the mask that a reference stands for."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from common.data.frames.labelled_frame import MaskReference
from common.data.frames.labelme import read_labelme
from common.data.video.frame_image import read_image
from common.data.video.layouts import FrameReference
from common.data.video.source import read_frames
from common.errors import InputError

__all__ = ["foreground", "picture_size", "read_frame", "read_mask", "reference_name"]

_LOSSY = (".jpg", ".jpeg", ".webp")
_ORIENTATION, _LYING = 0x0112, (5, 6, 7, 8)


def reference_name(reference: MaskReference) -> str:
    """Return what a reference is called in a message."""
    if isinstance(reference, dict):
        return str(reference["labelme"])
    return reference if isinstance(reference, str) else f"{reference[0]} (frame {reference[1]})"


def read_frame(reference: FrameReference) -> np.ndarray:
    """Read a picture file or one frame of a video, (H, W, 3) uint8 RGB.

    Raises:
        InputError: it cannot be read.
    """
    if isinstance(reference, str | os.PathLike):
        return read_image(reference)
    video, index = reference  # a list, where the item came from JSON
    (frame,) = read_frames(video, [int(index)])
    return frame.image


def read_mask(reference: MaskReference, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read where something is drawn.

    Args:
        reference: a mask picture, a frame of a mask video or the shapes of a LabelMe file.
        size: height and width of the frame that it belongs to.

    Returns:
        (H, W) booleans.

    Raises:
        InputError: it cannot be read, is of another size, or its values do not tell what is foreground.
    """
    if isinstance(reference, dict):
        return read_labelme(reference["labelme"], reference.get("labels"), size)
    if isinstance(reference, str | os.PathLike):
        lossless = Path(reference).suffix.lower() not in _LOSSY
    else:
        lossless = False
    mask = foreground(read_frame(reference), reference_name(reference), lossless)
    if size is not None and mask.shape != tuple(size):
        problem = f"is {mask.shape[1]} x {mask.shape[0]}, its frame {size[1]} x {size[0]}"
        raise InputError(reference_name(reference), problem, "draw the mask on its own frame")
    return mask


def foreground(picture: np.ndarray, where: str, lossless: bool = True) -> np.ndarray:
    """Return what is foreground in a mask picture.

    That is what is brighter than 128. A lossless picture of black and one other colour may have any other colour (0
    and 1, or the colours of a palette).

    Args:
        picture: (H, W, 3) uint8 RGB.
        where: the file, for messages.
        lossless: whether its values are those that were written.

    Returns:
        (H, W) booleans.

    Raises:
        InputError: a lossless picture has several values and none above 128, as label maps of several classes have.
    """
    grey = np.asarray(Image.fromarray(picture).convert("L"))
    if lossless and 0 < grey.max() <= 128:
        colours = np.unique(picture[grey > 0], axis=0)
        if len(colours) > 1:
            problem = f"has {len(colours)} dark colours beside black, which does not tell what is foreground"
            raise InputError(where, problem, "write foreground as 255 and the rest as 0")
        return grey > 0
    return grey > 128


def picture_size(path: str | os.PathLike) -> tuple[int, int]:
    """Return a picture's height and width, upright, without decoding it.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            lies = image.getexif().get(_ORIENTATION) in _LYING
    except Exception:  # what is wrong with it, in the reader's words
        height, width = read_image(path).shape[:2]
        lies = False
    return (width, height) if lies else (height, width)

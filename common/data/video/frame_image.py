"""Read one frame from a picture file."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageOps

from common.errors import InputError

__all__ = ["FRAME_SUFFIXES", "read_image"]

FRAME_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")

_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "WEBP")
_MODES = "1 L LA La P PA RGB RGBA RGBa RGBX CMYK YCbCr I I;16 I;16B I;16L".split()
_ORIENTATION = 0x0112


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read a picture as RGB.

    Grey, palette and CMYK become RGB, transparency is dropped, 16 bit become 8 by dividing by 257 (so that 65535 is
    255), and a picture that says that it lies on its side is turned upright. TIFF is a family of formats of which
    each reader knows another part: what is not among the plain ones is refused rather than guessed.

    Args:
        path: a file of one of ``FRAME_SUFFIXES``' formats.

    Returns:
        (H, W, 3) uint8.

    Raises:
        InputError: the file is missing, empty, not a picture, damaged, holds several pictures, or is of a kind that
            has no certain meaning as 8-bit RGB.
    """
    path = Path(path)
    try:
        if not path.stat().st_size:
            raise InputError(path, "is empty (0 bytes)", "replace or remove it")
        with Image.open(path, formats=_FORMATS) as image:
            unsure = _unsure(image)
            if unsure:
                raise InputError(path, unsure, "save it as an 8-bit PNG in RGB")
            if _bits(image, path) == 16:
                return _read_16_bit(path, image.format)
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except (InputError, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever they stumble over
        known = isinstance(error, OSError) and error.errno is not None
        reason = error.strerror if known else " ".join(str(error).replace(repr(str(path)), "it").split())
        raise InputError(path, f"cannot be read as a picture ({reason})", "replace or remove it") from error


def _unsure(image: Image.Image) -> str | None:
    """Return why a picture's meaning is not certain, or None."""
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:  # MPO: a photograph with its own previews
        return f"holds {image.n_frames} pictures in one file"
    if image.mode not in _MODES:
        return f"has no plain grey or RGB values ({image.mode})"
    if image.format != "TIFF":
        return None
    tags = image.tag_v2
    bits, meaning, packing = set(tags.get(258, (1,))), tags.get(262), tags.get(259, 1)
    if len(bits) > 1 or not bits <= {1, 2, 4, 8, 16}:
        return f"is a TIFF with {' and '.join(map(str, sorted(bits)))} bits"
    if set(tags.get(339, (1,))) != {1}:
        return "is a TIFF with signed or floating point values"
    # YCbCr that is not JPEG, JPEG of the first kind (6) and L*a*b* come out differently in different readers.
    if meaning not in (0, 1, 2, 3, 5, 6) or (meaning == 6 and packing != 7) or packing == 6:
        kind = f"photometric interpretation {meaning}, compression {packing}"
        return f"is a TIFF that readers decode differently ({kind})"
    return None


def _bits(image: Image.Image, path: Path) -> int:
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (1,)))
    if image.format == "PNG":
        with open(path, "rb") as file:
            return file.read(25)[24]  # the bit depth in the header chunk (ISO/IEC 15948, 11.2.2)
    return 8


def _read_16_bit(path: Path, kind: str) -> np.ndarray:
    """Read 16-bit values, of which Pillow keeps only the upper half where there are several channels."""
    with Image.open(path) as image:
        if image.getexif().get(_ORIENTATION, 1) != 1:
            raise InputError(path, "is a 16-bit picture stored on its side", "save it upright")
    with av.open(f"file:{path}", format=f"{kind.lower()}_pipe", options={"protocol_whitelist": "file"}) as container:
        picture = next(container.decode(video=0))
    if picture.format.name.startswith("ya16"):
        picture = picture.reformat(format="rgba64le")
    values = picture.to_ndarray()
    if values.dtype != np.uint16:
        raise ValueError(f"not 16 bit: {picture.format.name}")
    values = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.stack([values] * 3, axis=-1) if values.ndim == 2 else np.ascontiguousarray(values[..., :3])

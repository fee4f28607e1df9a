"""The size of a picture, without decoding it."""

from __future__ import annotations

import os

from PIL import Image

from common.data.video.frame_image import FRAME_SUFFIXES

__all__ = ["picture_size"]

_ORIENTATION, _ON_ITS_SIDE = 0x0112, (5, 6, 7, 8)  # Exif 2.3, 4.6.4


def picture_size(path: str | os.PathLike) -> tuple[int, int] | None:
    """Read from a file's header how large :func:`common.data.video.frame_image.read_image` will give it.

    A PNG that says only behind its pixels that it lies on its side is taken as it lies.

    Args:
        path: a file with one of ``FRAME_SUFFIXES``.

    Returns:
        (H, W), or None where it cannot be read.
    """
    known = Image.registered_extensions()
    try:
        with Image.open(path, formats=sorted({known[suffix] for suffix in FRAME_SUFFIXES})) as image:
            if image.format == "TIFF":  # some versions of Pillow turn it at this point, some later
                tags, (width, height) = image.tag_v2, (image.tag_v2[256], image.tag_v2[257])
            else:
                # To look behind the pixels of a PNG, Pillow would decode it.
                tags = image.getexif() if image.format != "PNG" or "exif" in image.info else {}
                width, height = image.size
            return (width, height) if tags.get(_ORIENTATION) in _ON_ITS_SIDE else (height, width)
    except MemoryError:
        raise
    except Exception:  # decoders raise whatever they stumble over; reading it says what is wrong
        return None

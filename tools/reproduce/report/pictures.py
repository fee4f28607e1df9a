"""Pictures within a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, UnidentifiedImageError

__all__ = ["MOST_BYTES", "Pictures", "embed"]

MOST_BYTES = 3_500_000  # of all pictures of a page, as they stand in it
_WIDTHS = (720, 540, 400, 300, 220, 160)
_QUALITY = 82

# Data URI by path; None where the file cannot be read as a picture.
Pictures = Mapping[Path, str | None]


def embed(paths: Sequence[Path], most: int = MOST_BYTES) -> dict[Path, str | None]:
    """Return pictures as data URIs (JPEG), all of them scaled down as far as their sum requires.

    Args:
        paths: of the files.
        most: bytes that all may take together. At the least width they take what they need.
    """
    found: dict[Path, str | None] = {}
    for width in _WIDTHS:
        found = {path: _data_uri(path, width) for path in dict.fromkeys(paths)}
        if sum(len(uri) for uri in found.values() if uri) <= most:
            break
    return found


def _data_uri(path: Path, width: int) -> str | None:
    try:
        with Image.open(path) as image:
            picture = image.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError):
        return None
    # A picture that is much higher than wide is measured by its height.
    picture.thumbnail((width, 2 * width), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode('ascii')}"

"""Lists of labelled frames in JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.data.frames.labelled_frame import LabelledFrame, MaskReference
from common.data.frames.layouts import named_file
from common.data.video.sequences import PART_NAMES
from common.errors import InputError

__all__ = ["frame_rows", "frames_listed"]

_PATIENT = ("patient", "subject", "group")
_MASK = ("mask", "label")


def frame_rows(path: Path) -> list[Any] | None:
    """Return the rows of a list of frames: the file's list, or its ``frames``; None where it has neither.

    Raises:
        InputError: the file is missing or is not valid JSON.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(path, "does not exist", "pass --datalist with a JSON file, or leave it out") from None
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"is not valid JSON ({error})", "mend it") from error
    rows = content.get("frames") if isinstance(content, dict) else content
    return rows if isinstance(rows, list) else None


def frames_listed(
    root: Path, listing: Path, rows: Sequence[Any], labels: Sequence[str] | None = None
) -> list[LabelledFrame]:
    """Return the frames of a list.

    Args:
        root: what paths are relative to.
        listing: the file, for messages.
        rows: each with ``image``, or with an ``id`` whose files are ``images/ID.*`` and, where there is one,
            ``masks/ID.*``. Further entries, which may be missing: ``mask`` (or ``label``: a picture, a LabelMe file or
            null), ``present`` (true, false, 1 or 0), ``patient`` (or ``subject``, ``group``: what must stay
            together), ``part`` (train, validation or test) and ``fold``.
        labels: which of LabelMe's labels count; all where None.

    Raises:
        InputError: a row is not valid, or a file is missing.
    """
    if not rows:
        raise InputError(listing, "lists no frames", 'write {"frames": [{"image": ..., "mask": ...}, ...]}')
    return [_frame(root, listing, number, row, labels) for number, row in enumerate(rows)]


def _frame(root: Path, listing: Path, number: int, row: Any, labels: Sequence[str] | None) -> LabelledFrame:
    where = f"{listing} (frame {number})"
    if not isinstance(row, dict) or not any(row.get(key) not in (None, "") for key in ("image", "id")):
        raise InputError(where, "has no 'image'", "name its file, relative to the data set's folder")
    name = str(row["id"]) if row.get("id") is not None else Path(str(row["image"])).with_suffix("").as_posix()
    if row.get("image"):
        image = root / str(row["image"])
    else:
        image = named_file(root / "images", name) or root / "images" / f"{name}.*"
    if not image.is_file():
        raise InputError(image, f"does not exist (the image of frame '{name}')", f"mend {listing.name}")
    part = row.get("part")
    if part is not None and (part := PART_NAMES.get(str(part).lower())) is None:
        raise InputError(where, f"names a part '{row['part']}' that is unknown", "use train, validation or test")
    fold = row.get("fold")
    if fold is not None and (isinstance(fold, bool) or not isinstance(fold, int)):
        raise InputError(where, f"has the fold {fold!r}", "use a number from 0")
    present = row.get("present")
    if present not in (None, True, False):  # 1 and 0 are equal to them
        raise InputError(where, f"states 'present' as {present!r}", "use true or false")
    patient = next((row[key] for key in _PATIENT if row.get(key) not in (None, "")), None)
    return LabelledFrame(
        id=name,
        image=str(image),
        mask=_mask(root, listing, name, row, labels),
        present=None if present is None else bool(present),
        patient=None if patient is None else str(patient),
        part=part,
        fold=fold,
    )


def _mask(
    root: Path, listing: Path, name: str, row: Mapping[str, Any], labels: Sequence[str] | None
) -> MaskReference | None:
    stated = next((row[key] for key in _MASK if key in row), None)
    if stated:
        path = root / str(stated)
        if not path.is_file():
            raise InputError(path, f"does not exist (the mask of frame '{name}')", f"mend {listing.name}")
    elif row.get("image") or any(key in row for key in _MASK):
        return None
    else:
        path = named_file(root / "masks", name)
        if path is None:
            return None
    is_labelme = path.suffix.lower() == ".json"
    return {"labelme": str(path), "labels": labels} if is_labelme else str(path)

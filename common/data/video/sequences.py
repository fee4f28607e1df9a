"""Find the annotated video sequences of a data set."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.data.video.frames import natural_key
from common.data.video.layouts import VideoSequence, sequences_in
from common.errors import InputError

__all__ = ["PARTS", "PART_NAMES", "find_sequences"]

PARTS = ("train", "validation", "test")

_INDEX, _SPLITS = "index.json", "splits.json"
# What people call the parts; how the project calls them.
PART_NAMES = {name: name for name in PARTS} | {
    "training": "train",
    "valid": "validation",
    "val": "validation",
    "testing": "test",
}


def find_sequences(dataset_dir: str | os.PathLike) -> list[VideoSequence]:
    """Find the annotated sequences of a data set.

    How the folder is laid out tells what it is (see :func:`common.data.video.layouts.sequences_in`). Two files in it
    may say more about the sequences, by their ids:

    - ``index.json``: ``{"frame_rate": 30, "sequences": [{"id": ..., "part": ..., "subject": ..., "present": [...],
      "frame_rate": ...}, ...]}``, where all but the ids may be missing. ``subject``: whose recording it is;
      ``present``: for each frame whether what is to be segmented can be seen.
    - ``splits.json``: ``{"train": [ids], "valid": [ids], "test": [ids]}``.

    The parts that they state take the place of the published ones that some layouts have.

    Args:
        dataset_dir: the folder.

    Returns:
        The sequences, ``case2`` before ``case10``. ``part`` is None in all of them or in none.

    Raises:
        InputError: nothing is found, a frame lacks its mask or a mask its frame, two videos have one name, or one of
            the two files is not valid, lists a sequence twice or does not agree with the folders.
    """
    root = Path(dataset_dir)
    if not root.is_dir():
        raise InputError(root, "is not a folder", "pass --dataset_dir with a folder that holds video sequences")
    try:
        by_id = {sequence.id: sequence for sequence in sequences_in(root)}
        for name, apply in ((_INDEX, _apply_index), (_SPLITS, _apply_splits)):
            if (root / name).is_file():
                by_id = apply(root / name, _read(root / name), by_id)
    except PermissionError as error:
        raise InputError(error.filename or root, "cannot be read (no permission)", "grant read access") from error
    _check_parts(root, by_id.values())
    return sorted(by_id.values(), key=lambda sequence: natural_key(Path(sequence.id)))


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"is not valid JSON ({error})", "mend it") from error
    if not isinstance(content, dict):
        raise InputError(path, "is not a JSON object", "mend it")
    return content


def _part(path: Path, name: Any) -> str:
    part = PART_NAMES.get(str(name).lower())
    if part is None:
        raise InputError(path, f"names a part '{name}' that is unknown", "use train, validation or test")
    return part


def _known(path: Path, name: Any, by_id: Mapping[str, VideoSequence]) -> VideoSequence:
    if str(name) not in by_id:
        raise InputError(path, f"names a sequence '{name}' that is not there", f"add it or remove it from {path.name}")
    return by_id[str(name)]


def _apply_index(path: Path, content: Mapping[str, Any], by_id: dict[str, VideoSequence]) -> dict[str, VideoSequence]:
    rows = content.get("sequences")
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "id" in row for row in rows):
        raise InputError(
            path, "has no list 'sequences' with an 'id' in each", 'write {"sequences": [{"id": ...}, ...]}'
        )
    named: dict[str, VideoSequence] = {}
    states_parts = any("part" in row for row in rows)
    for row in rows:
        sequence = _known(path, row["id"], by_id)
        if sequence.id in named:
            raise InputError(path, f"lists the sequence '{sequence.id}' twice", "remove one of the two")
        stated: dict[str, Any] = {}
        if states_parts:
            stated["part"] = _part(path, row["part"]) if "part" in row else None
        if "subject" in row:
            stated["subject"] = str(row["subject"])
        rate = row.get("frame_rate", content.get("frame_rate"))
        if rate is not None:
            if not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 < rate < math.inf:
                raise InputError(path, f"states a frame rate of {rate!r}", "use frames per second")
            stated["frame_rate"] = float(rate)
        if "present" in row:
            if not isinstance(row["present"], list) or len(row["present"]) != len(sequence.frames):
                problem = f"'present' of '{sequence.id}' is not a list of {len(sequence.frames)}, the number of frames"
                raise InputError(path, problem, "give each frame true or false")
            stated["present"] = tuple(map(bool, row["present"]))
        named[sequence.id] = replace(sequence, **stated)
    if states_parts:
        _require_all(path, named, by_id)
    return by_id | named


def _apply_splits(path: Path, content: Mapping[str, Any], by_id: dict[str, VideoSequence]) -> dict[str, VideoSequence]:
    named: dict[str, VideoSequence] = {}
    for name, ids in content.items():
        if not isinstance(ids, list):  # a note, a source
            continue
        part = _part(path, name)
        for number in ids:
            sequence = _known(path, number, by_id)
            if sequence.id in named:
                where = named[sequence.id].part
                problem = f"has the sequence '{sequence.id}' " + (
                    f"twice in {part}" if where == part else f"in {where} and in {part}"
                )
                raise InputError(path, problem, "list it once")
            named[sequence.id] = replace(sequence, part=part)
    _require_all(path, named, by_id)
    return named


def _require_all(path: Path, named: Mapping[str, VideoSequence], by_id: Mapping[str, VideoSequence]) -> None:
    missing = next((name for name in by_id if name not in named or named[name].part is None), None)
    if missing is not None:
        raise InputError(path, f"gives the sequence '{missing}' no part", "put it into train, validation or test")


def _check_parts(root: Path, sequences: Sequence[VideoSequence]) -> None:
    """Fail where the stated parts share a subject."""
    where: dict[str, VideoSequence] = {}
    for sequence in sequences:
        first = where.setdefault(sequence.subject, sequence)
        if first.part != sequence.part:
            problem = (
                f"subject '{sequence.subject}' is in {first.part} (sequence '{first.id}') and in {sequence.part} "
                f"('{sequence.id}')"
            )
            raise InputError(root, problem, "put all sequences of a subject into one part")

"""What a run has given."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.data.provenance import read_provenance

__all__ = ["Failure", "Result", "Segmented"]


@dataclass(frozen=True)
class Segmented:
    """A scan or a video that is done.

    Attributes:
        name: the stem of its files.
        source: where it was read from, as its bundle names it.
        segmentation: label map or mask; of frames as pictures, their folder; None where nothing was found and the
            format is DICOM SEG, which has no way to say so.
        preview: the picture or video with outlines, where there is one.
        provenance: what it comes from, in JSON.
        table: the table with its rows.
        kept: whether an earlier run has done it.
    """

    name: str
    source: str
    segmentation: Path | None
    preview: Path | None
    provenance: Path
    table: Path
    kept: bool

    @property
    def rows(self) -> list[dict[str, str]]:
        """Its rows of the table: one for each structure of a scan, or for each frame of a video."""
        if not self.table.is_file():
            return []
        with open(self.table, newline="", encoding="utf-8") as file:
            return [row for row in csv.DictReader(file) if row.get("case", self.name) == self.name]

    @property
    def statistics(self) -> dict[str, Any]:
        """``structures`` of a scan, by name: value, voxels and volume (mL); of a video how much of it shows something.

        A video has ``frames``, ``frames_found`` (the mask is not empty), ``mean_area_share`` and ``max_area_share`` (of
        the picture) and, where a network looks first, ``frames_present`` (it was opened for them).
        """
        rows = self.rows
        if self.table.name != f"{self.name}_frames.csv":
            return {
                "structures": {
                    row["structure"]: {
                        "value": int(row["value"]),
                        "voxels": int(row["voxels"]),
                        "volume_ml": float(row["volume_ml"]),
                    }
                    for row in rows
                }
            }
        shares = [float(row["area_share"]) for row in rows]
        found: dict[str, Any] = {"frames": len(rows), "frames_found": sum(int(row["area_px"]) > 0 for row in rows)}
        if rows and "present" in rows[0]:
            found["frames_present"] = sum(int(row["present"]) for row in rows)
        mean = sum(shares) / len(shares) if shares else None
        return found | {"mean_area_share": mean, "max_area_share": max(shares, default=None)}


@dataclass(frozen=True)
class Failure:
    """A scan or a video that could not be segmented, or not to its end.

    Attributes:
        source: which.
        problem: the line that says what is wrong and what to do.
    """

    source: str
    problem: str


@dataclass(frozen=True)
class Result:
    """What a run has given.

    Attributes:
        output: the folder of the results.
        items: what is done.
        failures: what could not be done, or not to its end.
        device: what the network ran on.
        seconds: how long it took.
        unit: what an item is: ``scan`` or ``video``.
    """

    output: Path
    items: list[Segmented]
    failures: list[Failure] = field(default_factory=list)
    device: str = "cpu"
    seconds: float = 0.0
    unit: str = "scan"

    def summary(self) -> dict[str, Any]:
        """Return what ``statistics.json`` holds.

        ``bundle``, ``version`` and ``weights`` are those of the results; files are named within the output folder.
        """
        origin: Mapping[str, Any] = (read_provenance(self.items[0].provenance) if self.items else None) or {}
        return {key: origin.get(key) for key in ("bundle", "version", "weights")} | {
            f"{self.unit}s": {
                item.name: {
                    "input": item.source,
                    "segmentation": item.segmentation.name if item.segmentation else None,
                    **item.statistics,
                }
                for item in self.items
            },
            "failures": [{"input": failure.source, "problem": failure.problem} for failure in self.failures],
        }

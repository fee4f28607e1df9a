"""What an export leaves beside its files, and says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from common.data.provenance import provenance, sha256_of
from tools.export.bundle import BundleNetwork
from tools.export.comparison import Comparison
from tools.export.part import ExportPlan

__all__ = ["DESCRIPTION", "Row", "description", "heading"]

DESCRIPTION = "export.json"
_LIBRARIES = ("onnx", "onnxscript", "onnxruntime", "torch_tensorrt")
_WIDTHS = "{:<14} {:<13} {:<34} {:>9} {:>11} {:>11}  {}"


@dataclass(frozen=True)
class Row:
    """One part in one format.

    Args:
        part: the part's name.
        format: the format's name.
        file: the file's name; None where none could be written.
        size: of the file in bytes.
        seconds: that writing and comparing took.
        comparison: with the original; None where there is no file.
        problem: why there is no file.
        left_out: there is none because the format cannot take the part, which is no failure.
    """

    part: str
    format: str
    file: str | None = None
    size: int = 0
    seconds: float = 0.0
    comparison: Comparison | None = None
    problem: str | None = None
    left_out: bool = False

    @property
    def ok(self) -> bool:
        """Whether there is a file that gives the original's numbers."""
        return self.comparison is not None and self.comparison.ok

    def __str__(self) -> str:
        if self.comparison is None:
            return f"{self.part:<14} {self.format:<13} {self.problem}"
        result, size = self.comparison, f"{self.size / 1e6:.2f} MB"
        verdict = "ok" if result.ok else f"FAILED{': ' + result.problem if result.problem else ''}"
        if result.ok and result.constant:
            verdict = "ok, but the original gave one number everywhere: the gate was closed"
        elif result.ok and result.rounding is not None:
            verdict = f"ok: the original's own rounding is {result.rounding:.2e}"
        numbers = (f"{result.difference:.2e}", f"{result.tolerance:.2e}")
        return _WIDTHS.format(self.part, self.format, self.file, size, *numbers, verdict)

    def described(self, folder: Path) -> dict[str, Any]:
        """Return the row as JSON has it; the file lies in ``folder``."""
        if self.comparison is None:
            return {"format": self.format, "file": None, "problem": self.problem}
        result = self.comparison
        return {
            "format": self.format,
            "file": self.file,
            "bytes": self.size,
            "sha256": sha256_of(folder / self.file),
            "largest_difference": result.difference,
            "largest_output": result.largest,
            "tolerance": result.tolerance,
            "ok": result.ok,
            "constant_output": result.constant,
            "seconds": round(self.seconds, 1),
        } | {
            name: value
            for name, value in (("rounding_of_original", result.rounding), ("problem", result.problem))
            if value is not None
        }


def heading() -> str:
    """Return the table's first line."""
    return _WIDTHS.format("part", "format", "file", "size", "difference", "tolerance", "").rstrip()


def description(
    bundle: BundleNetwork, plan: ExportPlan, rows: Sequence[Row], skipped: Mapping[str, str], folder: Path
) -> dict[str, Any]:
    """Return what a program needs to know that runs the files, and where they come from.

    Args:
        bundle: what was exported.
        plan: of the export.
        rows: what became of it.
        skipped: formats that were left out, and why.
        folder: where the files lie.
    """
    origin = provenance(bundle.root, bundle.checkpoint or [], None, bundle.settings)
    origin["libraries"] |= {name: version(name) for name in _LIBRARIES if find_spec(name) is not None}
    if bundle.checkpoint is None:
        origin["weights"] = "random: these files are good for trying a deployment out, and for nothing else"
    parts = [
        part.described() | {"files": [row.described(folder) for row in rows if row.part == part.name]}
        for part in plan.parts
    ]
    return {
        "network": type(bundle.network).__name__,
        "random_weights": bundle.checkpoint is None,
        "preprocessing": list(plan.preprocessing),
        "use": list(plan.use),
        "constants": dict(plan.constants),
        "channels": dict(bundle.channels),
        "parts": parts,
        "skipped": dict(skipped),
        **origin,
    }

"""What an evaluation left behind, and whether a threshold can be chosen on it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import InputError
from common.metrics import FrameResults

__all__ = ["EvaluatedFrames", "read_evaluation"]

_RESULTS, _SUMMARY = "frames.npz", "summary.json"
_RIGHT_PART = "validation"


@dataclass(frozen=True)
class EvaluatedFrames:
    """The output of an evaluation.

    Args:
        folder: where it is.
        results: of each frame, some of them positive, some negative.
        provenance: of the evaluation; empty where it is not known.
    """

    folder: Path
    results: FrameResults
    provenance: Mapping[str, Any]

    @property
    def part(self) -> str | None:
        """Which part of the data set was evaluated; None where that is not known."""
        settings = self.provenance.get("settings")
        return settings.get("part") if isinstance(settings, dict) else None

    def doubts(self, resample: str) -> list[str]:
        """Return a line for each thing that makes a choice on these frames doubtful.

        Args:
            resample: ``images`` or ``patients``.
        """
        presence, lines = self.results.presence, []
        if self.part not in (None, _RIGHT_PART):
            lines.append(
                f"these frames are of the part '{self.part}': a threshold that is chosen on frames of the training or "
                f"test makes scores on them too good; evaluate with --part {_RIGHT_PART} and choose on that"
            )
        if odd := int(((np.asarray(presence.present) > 0) != self.results.counts.present).sum()):
            lines.append(f"frames that are stated as positives with nothing drawn on them, or the other way: {odd}")
        if len(np.unique(presence.probabilities)) == 1:
            lines.append("all frames have the same probability: no threshold tells them apart")
        if resample == "patients" and len(set(self.results.patients)) == 1:
            lines.append("all frames are of one patient: resampling patients gives no interval")
        return lines


def read_evaluation(folder: Path) -> EvaluatedFrames:
    """Read the output folder of an evaluation of both stages.

    Raises:
        InputError: it is missing, or no threshold follows from its frames.
    """
    if not folder.is_dir():
        raise InputError(folder, "is not a folder", "pass --evaluation with the output folder of an evaluation")
    path = folder / _RESULTS
    results = FrameResults.load(path)
    probabilities = np.asarray(results.presence.probabilities)
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise InputError(path, "has numbers that are no probabilities", "evaluate again")
    stated, drawn = np.asarray(results.presence.present) > 0, results.counts.present
    for what, flags in (("positives", (stated, drawn)), ("negatives", (~stated, ~drawn))):
        if not all(flag.any() for flag in flags):
            raise InputError(path, f"has no {what}", "evaluate frames of both kinds, as a threshold weighs them")
    return EvaluatedFrames(folder, results, _read_provenance(folder / _SUMMARY))


def _read_provenance(path: Path) -> dict[str, Any]:
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    found = summary.get("provenance") if isinstance(summary, dict) else None
    return found if isinstance(found, dict) else {}

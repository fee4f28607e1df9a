"""Exports in numbers beside the networks that they were made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tools.export.formats import PartExport
from tools.export.part import CHECKS

__all__ = ["Comparison", "compare"]

# An export and its original round each in its own way; what both may be apart, as a multiple of what the original is
# from float64, and at the most, as a share of the largest number.
_ROUNDINGS, _MOST = 4, 1e-2


@dataclass(frozen=True)
class Comparison:
    """How far an export is from the original, on the output that is furthest.

    Args:
        difference: the largest absolute one, over all comparisons.
        largest: the original's largest absolute number.
        tolerance: the largest difference that is taken for rounding.
        problem: what else is wrong; None where nothing is.
        constant: the original gave one number everywhere, as where a gate let no frame pass: little was compared.
        rounding: how far the original itself is from what it gives in float64, where that decides about the tolerance.
    """

    difference: float
    largest: float
    tolerance: float
    problem: str | None = None
    constant: bool = False
    rounding: float | None = None

    @property
    def ok(self) -> bool:
        """Whether the export gives the original's numbers."""
        return self.problem is None and self.difference <= self.tolerance


def compare(export: PartExport, run: Callable[..., Any], tolerance: float) -> Comparison:
    """Run an export and its original on inputs of two sizes.

    A deep network may round by more than the tolerance in float32 itself. Where an export is further away than that,
    the original runs in float64 too, and four times its own rounding (no more than 1e-2 of the largest number) is taken
    for rounding.

    Args:
        export: what was exported.
        run: the export, a function of tensors.
        tolerance: largest difference, as a share of the largest number that the original gives.
    """
    differences: dict[int, float] = {}
    largest: dict[int, float] = {}
    originals: list[list[torch.Tensor]] = []
    problem, constant = None, True
    for check in range(CHECKS):
        inputs = export.examples(check)
        expected, found = _listed(export.part.original(*inputs)), _listed(run(*inputs))
        if [one.shape for one in found] != [one.shape for one in expected]:
            shapes = " instead of ".join(str([list(one.shape) for one in some]) for some in (found, expected))
            return Comparison(math.inf, 0.0, 0.0, f"shapes {shapes}")
        if not all(bool(one.isfinite().all()) for one in (*expected, *found)):
            problem = "numbers that are not finite"
        originals.append(expected)
        for place, one in enumerate(expected):
            constant = constant and bool((one == one.flatten()[0]).all())
            largest[place] = max(largest.get(place, 0.0), float(one.abs().max()))
        for place, distance in enumerate(_distances(expected, found)):
            differences[place] = max(differences.get(place, 0.0), distance)
    allowed = {place: tolerance * largest[place] for place in largest}
    roundings: dict[int, float] = {}
    if problem is None and any(differences[place] > allowed[place] for place in allowed):
        for place, rounding in enumerate(_roundings(export, originals)):
            most = min(_ROUNDINGS * rounding, _MOST * largest[place])
            if most > allowed[place]:
                allowed[place], roundings[place] = most, rounding
    worst = max(differences, key=lambda place: differences[place] / max(allowed[place], 1e-30))
    return Comparison(
        differences[worst], largest[worst], allowed[worst], problem, constant, rounding=roundings.get(worst)
    )


def _roundings(export: PartExport, originals: Sequence[Sequence[torch.Tensor]]) -> list[float]:
    """Return how far each output of the original is from what it is in float64, over all comparisons."""
    export.part.module.double()
    try:
        distances = []
        for check, expected in enumerate(originals):
            inputs = [one.double() if one.is_floating_point() else one for one in export.examples(check)]
            distances.append(_distances(expected, _listed(export.part.original(*inputs))))
    finally:
        export.part.module.float()  # each weight was a float32 number, and is the same one again
    return [max(some) for some in zip(*distances, strict=True)]


def _distances(expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor]) -> list[float]:
    """Return the largest absolute difference of each output."""
    return [
        float((one.double().cpu() - other.double().cpu()).abs().max())
        for one, other in zip(expected, found, strict=True)
    ]


def _listed(outputs: Any) -> list[torch.Tensor]:
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)

"""Exports in numbers beside the networks that they were made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from tools.export.formats import PartExport
from tools.export.part import CHECKS

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """How far an export is from the original, on the output that is furthest.

    Args:
        difference: the largest absolute one, over all comparisons.
        largest: the original's largest absolute number.
        tolerance: the largest difference that is taken for rounding.
        problem: what else is wrong; None where nothing is.
        constant: the original gave one number everywhere, as where a gate let no frame pass: little was compared.
    """

    difference: float
    largest: float
    tolerance: float
    problem: str | None = None
    constant: bool = False

    @property
    def ok(self) -> bool:
        """Whether the export gives the original's numbers."""
        return self.problem is None and self.difference <= self.tolerance


def compare(export: PartExport, run: Callable[..., Any], tolerance: float) -> Comparison:
    """Run an export and its original on inputs of two sizes.

    Args:
        export: what was exported.
        run: the export, a function of tensors.
        tolerance: largest difference, as a share of the largest number that the original gives.
    """
    differences: dict[int, float] = {}
    largest: dict[int, float] = {}
    problem, constant = None, True
    for check in range(CHECKS):
        inputs = export.examples(check)
        expected, found = _listed(export.part.original(*inputs)), _listed(run(*inputs))
        if [one.shape for one in found] != [one.shape for one in expected]:
            shapes = " instead of ".join(str([list(one.shape) for one in some]) for some in (found, expected))
            return Comparison(math.inf, 0.0, 0.0, f"shapes {shapes}")
        for place, (one, other) in enumerate(zip(expected, found, strict=True)):
            one, other = one.double().cpu(), other.double().cpu()
            if not bool(one.isfinite().all() and other.isfinite().all()):
                problem = "numbers that are not finite"
            constant = constant and bool((one == one.flatten()[0]).all())
            differences[place] = max(differences.get(place, 0.0), float((one - other).abs().max()))
            largest[place] = max(largest.get(place, 0.0), float(one.abs().max()))
    worst = max(differences, key=lambda place: differences[place] / max(largest[place], 1e-30))
    return Comparison(differences[worst], largest[worst], tolerance * largest[worst], problem, constant)


def _listed(outputs: Any) -> list[torch.Tensor]:
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)

"""Data sets, label tables, splits and files."""

from __future__ import annotations

from .cases import CaseList, SpineCases, find_cases
from .label_scheme import LabelScheme, Structure
from .plan import learned_values
from .samplers import EvaluationSampler
from .scan_reader import ScanReader
from .scans import ScanList
from .splits import split_cases
from .unlabeled_cases import UnlabeledCases
from .unlabelled_pairs import UnlabelledPairs

__all__ = [
    "CaseList",
    "EvaluationSampler",
    "LabelScheme",
    "ScanList",
    "ScanReader",
    "SpineCases",
    "Structure",
    "UnlabeledCases",
    "UnlabelledPairs",
    "find_cases",
    "learned_values",
    "split_cases",
]

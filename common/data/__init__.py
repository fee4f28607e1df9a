"""Data sets, label tables, splits and files."""

from __future__ import annotations

from .cases import CaseList, SpineCases, find_cases
from .label_scheme import LabelScheme, Structure
from .plan import learned_values, read_plan
from .samplers import BalancedSampler, EvaluationSampler
from .scan_reader import ScanReader
from .scans import ScanList
from .splits import split_cases
from .unlabeled_cases import UnlabeledCases
from .unlabelled_pairs import UnlabelledPairs

__all__ = [
    "BalancedSampler",
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
    "read_plan",
    "split_cases",
]

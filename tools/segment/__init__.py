"""Segment scans and videos with a bundle, without a configuration: ``from tools.segment import segment``."""

from __future__ import annotations

from .results import Failure, Result, Segmented
from .segmentation import segment

__all__ = ["Failure", "Result", "Segmented", "segment"]

"""Code that every bundle of the spine collection shares; its rooms bear MONAI's names."""

from __future__ import annotations

__version__ = "0.6.0"

"""Measure models side by side on one machine: ``python -m tools.benchmark``."""

"""Choose the threshold of a two-stage pipeline's gate: ``python -m tools.gate``."""

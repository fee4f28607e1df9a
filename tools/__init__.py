"""What people run: ``python -m tools.NAME``."""

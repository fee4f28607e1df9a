"""The nerve outlined in running video: ``python -m tools.stream --source FILE|DEVICE|URL``."""

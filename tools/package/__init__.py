"""Bundles as zip files, the same bytes every time."""

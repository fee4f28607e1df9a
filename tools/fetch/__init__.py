"""Packages of bundles, downloaded and unpacked with care."""

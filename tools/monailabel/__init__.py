"""MONAI Label with the bundles of a folder: what the server is given, and how it is started (README.md here)."""

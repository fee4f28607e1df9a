"""The papers' tables, re-run on any data set of the right kind."""

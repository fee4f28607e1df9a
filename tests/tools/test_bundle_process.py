"""The words of a bundle's command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.bundle_process import as_word


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ([1.0, 1.0, None], "[1.0, 1.0, None]"),
        ((1, True), "[1, True]"),
        ([Path("a")], "['a']"),
        (None, "None"),
        (True, "true"),
        (0.001, "0.001"),
        (Path("a"), "a"),
        ("a b", "a b"),
    ],
)
def test_words_are_what_monai_reads(value, word):
    """JSON's null inside a list would stay a text."""
    assert as_word(value) == word

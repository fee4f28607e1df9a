from __future__ import annotations

import pytest

from tools.reproduce.report import words
from tools.reproduce.report.markdown import escaped
from tools.reproduce.report.statistics import Summary
from tools.reproduce.results import Metric, Published

MINUS = words.MINUS


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [(0.8449, 3, "0.845"), (-0.25, 1, f"{MINUS}0.2"), (-0.0001, 3, "0.000"), (1234567.0, 0, "1,234,567")],
)
def test_numbers(value, decimals, text):
    assert words.number(value, decimals) == text


@pytest.mark.parametrize(("value", "text"), [(0.5, "+0.50"), (-0.5, f"{MINUS}0.50"), (0.001, "0.00"), (-0.001, "0.00")])
def test_differences(value, text):
    assert words.signed(value, 2) == text


def test_p_values_are_never_none():
    assert [words.p_value(p) for p in (0.25, 0.0005, 0.0004)] == ["0.250", "0.001", "< 0.001"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "not known"), (0.04, "0.0 s"), (59.96, "1 min 0 s"), (61.4, "1 min 1 s"), (7265, "2 h 1 min")],
)
def test_times(seconds, text):
    assert words.duration(seconds) == text


def test_figures_of_the_paper_keep_their_digits():
    assert words.paper_figure(Published(0.81234, "± 0.05"), 3) == "0.81234 ± 0.05"
    assert words.paper_figure(Published(88.2), 2) == "88.20"


def test_intervals_or_why_there_is_none():
    metric = Metric("dice", "Dice")
    assert words.bounds(Summary(0.5, 0.1, 9, 6, 0.4, 0.6), metric) == "95 % CI 0.400 to 0.600"
    assert words.bounds(Summary(0.5, 0.1, 9, 4), metric) == "no interval: fewer than 5 subjects"
    assert words.bounds(Summary(0.5, 0.1, 9, 6), metric) == "no interval"


def test_text_of_a_page():
    assert words.printable("a\tb\x07\x85\ud800é") == "a\tb\ufffd\ufffd\ufffdé"


def test_markdown_shows_text_as_it_is():
    assert escaped("# a|b\n[c](d) <e> f_g *h* `i` ~j~ $k$ &amp; \\") == (
        r"\# a\|b \[c\](d) \<e\> f\_g \*h\* \`i\` \~j\~ \$k\$ \&amp; " + "\\\\"
    )


@pytest.mark.parametrize(("names", "text"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")])
def test_names_one_after_the_other(names, text):
    assert words.listed(names) == text

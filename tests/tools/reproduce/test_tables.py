"""What the tables state of the papers."""

from __future__ import annotations

import pytest

from tools.reproduce.report.words import paper_figure
from tools.reproduce.tables import TABLES


def test_safnets_folds_and_their_mean():
    """As printed; their mean is not quite the one that the paper states, and the page says so."""
    (model, *others) = [row.model for row in TABLES["safnet-comparison"].rows]
    folds = model.published_folds["dice"]
    assert [paper_figure(folds[fold], 3) for fold in range(5)] == [
        "0.7946 ± 0.0463", "0.7882 ± 0.0797", "0.8132 ± 0.0345", "0.8056 ± 0.0547", "0.8083 ± 0.0348",
    ]  # fmt: skip
    mean = sum(published.value for published in folds.values()) / 5
    assert mean == pytest.approx(0.8020, abs=5e-5)
    assert all(not other.published_folds for other in others)
    stated = model.published["dice"].value
    assert f"is {mean:.4f}, not the {stated:.4f} that it states" in TABLES["safnet-comparison"].fold_note


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_published_figure_says_from_where(table):
    metrics = {metric.key for metric in table.metrics}
    for row in table.rows:
        of_folds = {key: one for key, folds in row.model.published_folds.items() for one in folds.values()}
        assert {*row.model.published, *of_folds} <= metrics
        assert all(one.where for one in (*row.model.published.values(), *of_folds.values()))

"""What a table of a paper consists of: which runs of a bundle it needs, and how its figures come from them."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.reproduce.results import Figure, Metric, Model, Score

__all__ = ["Kind", "Row", "Step", "Table"]


@dataclass(frozen=True)
class Step:
    """One run of a bundle's configuration.

    Attributes:
        name: of the step; its folder's name, too.
        files: configurations of the bundle, without their ending, each laid over those before.
        ids: what they are changed to. ``{NAME}`` in a text is the folder of the row's step NAME in the same fold,
            ``{ROW/NAME}`` that of another row; the run then waits for it.
        trains: whether it trains, and takes the number of epochs and what the user sets for trainings.
        epochs: ids that the number of epochs is set by.
        weights: of a training: where in its folder the best weights lie.
        program: a tool's module that is run in the place of a configuration; it takes ``arguments``.
        arguments: of the tool, with folders as in ``ids``; ``{this}`` is the step's own.
        quick_arguments: of the tool in a quick run, behind the others.
    """

    name: str
    files: Sequence[str] = ()
    ids: Mapping[str, Any] = field(default_factory=dict)
    trains: bool = False
    epochs: Sequence[str] = ("max_epochs",)
    weights: str = "model.pt"
    program: str = ""
    arguments: Sequence[str] = ()
    quick_arguments: Sequence[str] = ()

    def needs(self) -> list[str]:
        """Return the steps that it takes something from, as they are named in braces."""
        texts = [value for value in (*self.ids.values(), *self.arguments) if isinstance(value, str)]
        names = (name for text in texts for _, name, _, _ in string.Formatter().parse(text) if name)
        return [name for name in dict.fromkeys(names) if name != "this"]


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        model: what it is called, and what the paper says of it.
        steps: its runs, in order.
        evaluation: the step whose folder its figures are read from, ``NAME`` or ``ROW/NAME``.
        options: for the table's reader, such as a threshold.
    """

    model: Model
    steps: Sequence[Step] = ()
    evaluation: str = "evaluate"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Kind:
    """What tables on one kind of data have in common.

    Attributes:
        name: ``spine``, ``video`` or ``frames``.
        subjects: from a bundle's ``cases`` to the subject and the pictures' files of each case, by its id.
        phantoms: ids that make a few small phantoms for ``--quick``.
    """

    name: str
    subjects: Callable[[Any], dict[str, tuple[str, list[Path]]]]
    phantoms: Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """A table of a paper.

    Attributes:
        name: how it is asked for.
        title: one line.
        paper: the citation.
        bundle: whose configurations run.
        kind: of data.
        rows: the models; the first is the one that the others are compared with.
        metrics: the columns.
        read: from a row, the folder of its evaluation and the fold to its scores and figures.
        structures: in the order of the table; empty where there are none.
        num_folds: how many there are; 1: one split.
        quick: ids of all runs with ``--quick``.
        quick_rows: which rows ``--quick`` takes; empty: all.
        pictures: from the folder of an evaluation to pictures by case.
        picture_note: what they show; a sentence or two.
        fold_note: what has to be known of the paper's folds, where it has figures of them; a sentence or two.
        cautions: what holds of every run of this table, a sentence each.
        data: whether it needs a data set.
    """

    name: str
    title: str
    paper: str
    bundle: str
    kind: Kind
    rows: Sequence[Row]
    metrics: Sequence[Metric]
    read: Callable[[Row, Path, int | None], tuple[list[Score], list[Figure]]]
    structures: Sequence[str] = ()
    num_folds: int = 1
    quick: Mapping[str, Any] = field(default_factory=dict)
    quick_rows: Sequence[str] = ()
    pictures: Callable[[Path], dict[str, Path]] = lambda folder: {}
    picture_note: str = ""
    fold_note: str = ""
    cautions: Sequence[str] = ()
    data: bool = True

    def step(self, name: str) -> tuple[Row, Step]:
        """Return the row and the step of ``ROW/NAME``."""
        key, _, step = name.partition("/")
        row = next(row for row in self.rows if row.model.key == key)
        return row, next(found for found in row.steps if found.name == step)

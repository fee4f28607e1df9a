"""What the runs of a table left, whichever bundle they are of: all that its report is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np

__all__ = ["Figure", "Job", "Metric", "Model", "Published", "Results", "Score", "State"]


@dataclass(frozen=True)
class Metric:
    """A measure of how good a segmentation is, or of what a model costs.

    Attributes:
        key: how scores and figures name it.
        title: how tables name it.
        unit: such as ``mm``; empty for shares.
        higher_is_better: whether; None where neither is (a number of parameters).
        decimals: how many a table shows.
        statistic: how a set's figure comes from its cases: ``mean``; ``auroc``, which needs each score's ``truth``; or
            ``maximum``, the greatest value of the mean of the cases' curves; or ``average_precision``, of all cases'
            pixels together. The last two need each score's ``curve``.
    """

    key: str
    title: str
    unit: str = ""
    higher_is_better: bool | None = True
    decimals: int = 3
    statistic: str = "mean"


@dataclass(frozen=True)
class Published:
    """A figure of the paper, in the unit of our metric.

    Attributes:
        value: the figure.
        spread: with it, as printed: ``± 5.00``, ``0.91 to 0.93``; empty for none.
        where: table or section.
    """

    value: float
    spread: str = ""
    where: str = ""


@dataclass(frozen=True)
class Model:
    """A row of the table.

    Attributes:
        key: how scores and jobs name it; safe as a file's name.
        title: how tables name it.
        published: the paper's figures by the metric's key; what is not there was not published.
        note: how ours differs from the paper's, if it does; a sentence.
        published_folds: the paper's figures of single folds by the metric's key, then by our number of the fold.
    """

    key: str
    title: str
    published: dict[str, Published] = field(default_factory=dict)
    note: str = ""
    published_folds: dict[str, dict[int, Published]] = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """A figure of one case.

    Attributes:
        model: key of the model.
        fold: of the cross-validation; None where there is one split only.
        case: the case (exam, sequence, image).
        subject: who or what it is of; cases of a subject are resampled together.
        metric: key of the metric.
        value: the figure.
        structure: of a structure of the case; empty for the case as a whole.
        truth: what is true of the case, where the metric's statistic needs it (0 or 1).
        curve: of the case, where the metric's statistic needs it, and ``value`` is the case's own figure: over
            thresholds, (T,); or for an average precision how many pixels have which probability, (2 L,), first those
            outside, then those inside the reference.
    """

    model: str
    fold: int | None
    case: str
    subject: str
    metric: str
    value: float
    structure: str = ""
    truth: float | None = None
    curve: np.ndarray | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Figure:
    """A figure that is not of cases: a count, a cost, a time.

    Attributes:
        model: key of the model.
        metric: key of the metric.
        value: the figure; of repeats the median.
        repeats: of how many measurements; None for what is counted exactly.
        low: the smallest of the repeats.
        high: the largest of the repeats.
    """

    model: str
    metric: str
    value: float
    repeats: int | None = None
    low: float | None = None
    high: float | None = None


class State(StrEnum):
    """How far a job is."""

    DONE = "done"
    FAILED = "failed"
    UNFINISHED = "unfinished"


@dataclass(frozen=True)
class Job:
    """A training or an evaluation of a model.

    Attributes:
        key: unique in the table, such as ``safnet/fold_0/train``.
        model: key of the model.
        fold: of the cross-validation; None where there is one split only.
        step: ``train`` or ``evaluate``.
        state: how far it is.
        command: as it can be typed again.
        error: the line that a failed job ended with; empty otherwise.
        seconds: it took, with all its interruptions left out; None where it is not done.
        machine: where it ran: processor or graphics card, threads; empty where it is not done.
        selected_by: of a training: which figure of which part chose the weights, such as ``best mean Dice of the
            validation part (epoch 12 of 40)`` or ``last epoch``.
        weights_sha256: of a training.
        history: of a training: its ``history.csv`` (a row an epoch; columns ``epoch``, ``loss``, ``val_...``).
    """

    key: str
    model: str
    fold: int | None
    step: str
    state: State
    command: str
    error: str = ""
    seconds: float | None = None
    machine: str = ""
    selected_by: str = ""
    weights_sha256: str = ""
    history: Path | None = None


@dataclass(frozen=True)
class Results:
    """A table that was re-run, as far as it was.

    Attributes:
        table: its name, such as ``safnet-comparison``.
        title: one line.
        paper: the citation.
        command: that made it.
        models: the rows, in the table's order; the first is the one that the others are compared with.
        metrics: the columns, in the table's order; the first is what cases are ranked by.
        scores: of all cases that were evaluated.
        figures: what is not of cases.
        jobs: all that the table needs, done or not.
        pictures: PNG or JPEG by model, fold and case, where there is one.
        picture_note: what they show; a sentence or two.
        structures: in the order of tables and plots; empty where cases are scored as a whole only.
        data: of the data set: name and value, such as ``cases: 62``, ``SHA-256 of the list: ...``.
        splits: of each fold: name of a part (``train``, ``validation``, ``test``) and its cases.
        never_tested: cases of no fold's test part.
        fold_note: what has to be known of the paper's folds, where it has figures of them; a sentence or two.
        cautions: what this run cannot show (shortened, phantoms, another data set than the paper's), a sentence each.
        versions: of libraries, by name.
        seeds: of each training.
    """

    table: str
    title: str
    paper: str
    command: str
    models: Sequence[Model]
    metrics: Sequence[Metric]
    scores: Sequence[Score] = ()
    figures: Sequence[Figure] = ()
    jobs: Sequence[Job] = ()
    pictures: dict[tuple[str, int | None, str], Path] = field(default_factory=dict)
    picture_note: str = ""
    structures: Sequence[str] = ()
    data: dict[str, str] = field(default_factory=dict)
    splits: dict[int, dict[str, list[str]]] = field(default_factory=dict)
    never_tested: Sequence[str] = ()
    fold_note: str = ""
    cautions: Sequence[str] = ()
    versions: dict[str, str] = field(default_factory=dict)
    seeds: dict[str, int] = field(default_factory=dict)

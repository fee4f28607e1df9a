"""What is trained for a bundle's release: a file ``tools/train_release/NAME.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from common.errors import InputError
from tools.bundle_files import BUNDLES

__all__ = ["Candidate", "Recipe", "Stage", "recipe_names"]

_HERE = Path(__file__).parent
_RUN = "{run}"


@dataclass(frozen=True)
class Stage:
    """One training of a recipe.

    Attributes:
        name: the folder of its output in the run's; stages of one name share it, and the later ones find the others'
            weights there.
        configs: what is laid over the recipe's configurations, by the names of their files.
        ids: what ids are set to; ``{run}`` in a text stands for the run's folder.
        state: the file in its output from which it goes on after an interruption.
    """

    name: str
    configs: tuple[str, ...] = ()
    ids: Mapping[str, Any] = field(default_factory=dict)
    state: str = "training_state.pt"


@dataclass(frozen=True)
class Candidate:
    """Weights that a recipe may hand on.

    Attributes:
        file: where they are, in the run's folder: in that of the stage that they come from.
        settings: further settings that travel with the weights, in their ``model.json``, and are set when they are
            evaluated: how they are best used.
    """

    file: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stage(self) -> str:
        """Name of the stage whose weights they are."""
        return Path(self.file).parts[0]


@dataclass(frozen=True)
class Recipe:
    """A bundle's trainings, and how their weights are measured.

    Attributes:
        root: the bundle's folder.
        configs: train.json and what is laid over it in all stages and in the evaluation.
        stages: the trainings, in their order.
        weights: what can be shipped; of several, the one with the best score, the first of equals.
        evaluation: what is laid over ``configs`` to measure it, and ids.
        score: where the score stands in the evaluation's ``summary.json``: the larger the better. It chooses between
            several weights, and may not suffer from half precision.
        ids: of all stages and the evaluation.
        figures: which of it go into the metadata, such as ``groups/*/dice``.
        tables: which of the evaluation's tables are kept in the repository.
        phantoms: ``count`` and ``seed`` of the spine phantoms that are mixed in; None for none.
        folds: those that there are; empty where the data's parts are published.
        fold: the held-out one; None likewise.
    """

    root: Path
    configs: tuple[str, ...]
    stages: tuple[Stage, ...]
    weights: tuple[Candidate, ...]
    evaluation: Stage
    score: tuple[str, ...]
    figures: tuple[str, ...]
    tables: tuple[str, ...]
    ids: Mapping[str, Any]
    phantoms: Mapping[str, int] | None = None
    folds: tuple[int, ...] = ()
    fold: int | None = None

    @classmethod
    def load(cls, name: str) -> Recipe:
        """Read the recipe of a bundle.

        Raises:
            InputError: there is none.
        """
        if name not in recipe_names():
            raise InputError(name, "is no bundle that there is a recipe for", f"choose {', '.join(recipe_names())}")
        content = json.loads((_HERE / f"{name}.json").read_text(encoding="utf-8"))
        return cls(
            root=BUNDLES / name,
            configs=tuple(content["configs"]),
            stages=tuple(_stage(entry) for entry in content["stages"]),
            weights=tuple(Candidate(**entry) for entry in content["weights"]),
            evaluation=_stage({"name": "evaluation"} | content["evaluation"]),
            score=tuple(content["score"]),
            figures=tuple(content["figures"]),
            tables=tuple(content["tables"]),
            ids=content.get("ids", {}),
            phantoms=content.get("phantoms"),
            folds=tuple(content.get("folds", ())),
            fold=content.get("fold"),
        )

    def content(self) -> dict[str, Any]:
        """Return the recipe as numbers, texts, lists and dictionaries; of its folder the name."""
        return json.loads(json.dumps(asdict(replace(self, root=Path(self.root.name))), default=str))

    def files(self, stage: Stage) -> list[str]:
        """Return the configuration files of a stage, in the order in which they are laid over one another."""
        return [str(self.root / "configs" / f"{name}.json") for name in (*self.configs, *stage.configs)]

    def takes(self, stage: Stage, name: str) -> bool:
        """Tell whether a stage's configuration has an id, or the one that a nested id is part of."""
        top = name.lstrip("+").replace("#", "::").split("::")[0]
        return any(top in json.loads(Path(file).read_text(encoding="utf-8")) for file in self.files(stage))

    def set_for(self, stage: Stage, run: Path) -> dict[str, Any]:
        """Return what the ids of a stage are set to, with ``{run}`` filled in."""
        ids = {**self.ids, **stage.ids}
        return {name: value.replace(_RUN, str(run)) if isinstance(value, str) else value for name, value in ids.items()}


def recipe_names() -> list[str]:
    """Return the names of the bundles that there is a recipe for."""
    return sorted(file.stem for file in _HERE.glob("*.json"))


def _stage(entry: Mapping[str, Any]) -> Stage:
    return Stage(**{**entry, "configs": tuple(entry.get("configs", ()))})

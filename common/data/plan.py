"""The settings that weights were trained with; they travel with the weights.

A network that learned on one grid gives poor results on another, without an error. So a training writes ``model.json``
beside ``model.pt``, and whatever loads the weights compares.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from common.data.label_scheme import LabelScheme, label_values
from common.errors import InputError

__all__ = ["LEARNED", "check_plan", "learned_values", "plan_file", "read_plan"]

LEARNED = "learned"
_RESTORE = "restore it, or delete it to go on unchecked"


def plan_file(weights: str | Path) -> Path:
    """Return where the plan of these weights lies: ``model.json`` for ``model.pt``."""
    return Path(weights).with_suffix(".json")


def read_plan(weights: str | Path | None) -> dict[str, Any]:
    """Read the plan beside a file of weights; empty where there is none, or no weights (None).

    Raises:
        InputError: the plan is not valid JSON, or what the weights learned is no list of label values.
    """
    if weights is None:
        return {}
    path = plan_file(weights)
    if not path.is_file():
        return {}
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise InputError(path, "is not valid JSON (nested too deep)", _RESTORE) from error
    except ValueError as error:
        raise InputError(path, f"is not valid JSON ({error})", _RESTORE) from error
    if not isinstance(plan, dict):
        return {}
    if plan.get(LEARNED) is not None:
        try:
            plan[LEARNED] = label_values(plan[LEARNED])
        except InputError as error:
            raise InputError(path, f"its entry '{LEARNED}' {error.problem}", _RESTORE) from error
    return plan


def check_plan(weights: str | Path, settings: Mapping[str, Any]) -> None:
    """Compare the settings of a run with those that the weights were trained with.

    Args:
        weights: the file of weights.
        settings: by id; ids that the plan does not hold are not compared.

    Raises:
        InputError: one differs; the message names the id to pass.
    """
    plan = read_plan(weights)
    for name, value in settings.items():
        if name in plan and plan[name] != _plain(value):
            trained = json.dumps(plan[name], separators=(",", ":"))
            raise InputError(
                weights, f"was trained with {name} {trained}, not {json.dumps(_plain(value), separators=(',', ':'))}",
                f"pass --{name} '{trained}'",
            )  # fmt: skip


def learned_values(items: Iterable[Mapping[str, Any]], scheme: str, labelled: str = "all") -> list[int]:
    """Tell which structures a training set can teach: those that at least one case's annotators drew.

    A structure that nobody drew is background or itself everywhere, so the network may put it anywhere; predictions
    count it as background.

    Args:
        items: the training cases.
        scheme: name of the label scheme.
        labelled: what a case without a ``labelled`` entry has drawn: ``all``, or ``present``, which only its label map
            tells and which is taken for all here.

    Returns:
        Label values, ascending.

    Raises:
        InputError: see :func:`common.data.label_scheme.label_values`.
    """
    known = {structure.value for structure in LabelScheme.load(scheme).structures}
    values: set[int] = set()
    for item in items:
        drawn = item.get("labelled")
        values |= known if drawn is None else known & set(label_values(drawn))
    return sorted(values)


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))

"""What is searched: a file that says for each id which values it may have."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from common.errors import InputError
from tools.bundle_process import as_word
from tools.search.configuration import Configuration

__all__ = ["Space"]

_BOUNDS = ("low", "high", "log", "step")
_DIGITS, _DIGITS_OF_STEPS = 4, 12  # of a number that is drawn: what a learning rate is worth stating; 0.3, not 0.1 * 3


class Space:
    """The ids that are searched, and how their values are drawn.

    The file is in JSON: ``{"lr": {"low": 1e-4, "high": 3e-3, "log": true}, "batch_size": [4, 8, 16]}``. A list holds
    values of equal probability. ``low`` and ``high`` bound a uniform draw, of the logarithm with ``log``, of ``low``,
    ``low + step``, ... with ``step``; of whole numbers where these are all whole and the configuration's own value is.

    Args:
        path: the file.
        configuration: what the ids are checked against.

    Attributes:
        content: what the file says.
        distributions: Optuna's, by id.

    Raises:
        InputError: the file cannot be read; the configuration has no such id; or the values are not as above, or not
            of the id's kind.
    """

    def __init__(self, path: str | Path, configuration: Configuration) -> None:
        self.path, self.configuration = path, configuration
        try:
            self.content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(path, f"cannot be read ({error})", "pass --space with a file in JSON") from error
        if not isinstance(self.content, dict) or not self.content:
            raise InputError(path, "is no space", 'state ids and their values, such as {"batch_size": [4, 8]}')
        self.distributions = {name: self._distribution(name, values) for name, values in self.content.items()}

    @property
    def size(self) -> float:
        """How many sets of values there are; infinite where a number is drawn from a continuous range."""
        return math.prod(_count(distribution) for distribution in self.distributions.values())

    def draw(self, trials: int, seed: int) -> list[dict[str, Any]]:
        """Draw the values of the first trials.

        Those of fewer trials are the beginning of those of more. No set is drawn twice, so there are at most ``size``.

        Args:
            trials: how many.
            seed: from 0.

        Returns:
            For each trial the ids and what they are set to.
        """
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
        drawn: list[dict[str, Any]] = []
        while len(drawn) < min(trials, self.size):
            stored = study.ask(self.distributions).params
            values = {name: self._value(name, value) for name, value in stored.items()}
            if self.size == math.inf or values not in drawn:
                drawn.append(values)
        return drawn

    def stored(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a trial as an Optuna study keeps them: a list as its text."""
        return {name: _plain(value) for name, value in values.items()}

    def _value(self, name: str, stored: Any) -> Any:
        distribution = self.distributions[name]
        if isinstance(distribution, CategoricalDistribution):
            return self.content[name][distribution.choices.index(stored)]
        if isinstance(distribution, FloatDistribution):
            digits = _DIGITS if distribution.step is None else _DIGITS_OF_STEPS
            return min(max(float(f"{stored:.{digits}g}"), distribution.low), distribution.high)
        return stored

    def _distribution(self, name: str, values: Any) -> BaseDistribution:
        if isinstance(values, dict) and "low" in values and "high" in values:
            return self._range(name, values)
        if not isinstance(values, list) or not values:
            raise self._refusal(name, "has neither a list of values nor low and high", 'state [...] or {"low", "high"}')
        for value in values:
            if value is None or isinstance(value, dict):
                raise self._refusal(name, f"cannot be {json.dumps(value)}", "list numbers, words, true, false, lists")
            self._check(name, value)
        words = [json.dumps(value) for value in values]
        if len(set(words)) < len(words):
            twice = next(word for word in words if words.count(word) > 1)
            raise self._refusal(name, f"has {twice} twice", "list each value once")
        return CategoricalDistribution([_plain(value) for value in values])

    def _range(self, name: str, values: Mapping[str, Any]) -> BaseDistribution:
        if unknown := [key for key in values if key not in _BOUNDS]:
            raise self._refusal(name, f"has an unknown '{unknown[0]}'", f"state of {', '.join(_BOUNDS)}")
        low, high, log, step = (values.get(key) for key in _BOUNDS)
        default = self.configuration.content.get(name)
        for key, number in (("low", low), ("high", high), ("step", step)):
            if not (_is_number(number) or (key == "step" and number is None)):
                raise self._refusal(name, f"{key} {json.dumps(number)} is no number", "state one, or list the values")
            if key != "step":
                self._check(name, number)
        if isinstance(default, bool) or (isinstance(default, str) and not default.startswith(("$", "@", "%"))):
            raise self._refusal(name, f"is {json.dumps(default)} by itself, no number", "list its values")
        if log not in (None, True, False):
            raise self._refusal(name, f"log {json.dumps(log)} is neither true nor false", "state one, or leave it out")
        if low > high:
            raise self._refusal(name, f"low {low} is above high {high}", "exchange them")
        if log and low <= 0:
            raise self._refusal(name, f"low {low} has no logarithm", "let low be above 0, or leave log out")
        if log and step is not None:
            raise self._refusal(name, "has both log and step", "leave one of them out")
        if step is not None and step <= 0:
            raise self._refusal(name, f"step {step} is not above 0", "let it be above 0, or leave it out")
        if isinstance(default, int) and isinstance(step, float):
            raise self._refusal(name, f"step {step} is not a whole number", "let it be one")
        whole = all(isinstance(number, int) for number in (low, high, step or 1)) and not isinstance(default, float)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the last step need not end at high
            if whole:
                return IntDistribution(low, high, bool(log), step or 1)
            return FloatDistribution(low, high, bool(log), step)

    def _check(self, name: str, value: Any) -> None:
        """Refuse an id that there is not, and a value of another kind."""
        try:
            self.configuration.check(name, value)
        except InputError as error:
            raise InputError(f"{self.path}, {error.where}", error.problem, error.remedy) from error

    def _refusal(self, name: str, problem: str, remedy: str) -> InputError:
        return InputError(f"{self.path}, {name}", problem, remedy)


def _plain(value: Any) -> Any:
    return as_word(value) if isinstance(value, list) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _count(distribution: BaseDistribution) -> float:
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    if distribution.single():
        return 1
    if distribution.step is None:
        return math.inf
    return round((distribution.high - distribution.low) / distribution.step) + 1

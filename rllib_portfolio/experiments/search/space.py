"""The search space of a configuration file: the settings that a search may change, and their bounds.

    search:
      training.learning_rate: {low: 1.0e-5, high: 1.0e-3, log: true}
      training.target_update_interval: {low: 500, high: 2000}   # integers, since both bounds are
      network.hidden_sizes: {choices: [[128, 128], [256, 256]]}

Settings on which the evaluation of a policy depends cannot be searched: with other costs, dates or assets, the scores
of trials could not be compared.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import optuna
from pydantic import Field, model_validator

from rllib_portfolio.config import ExecutionConfig, RunConfig
from rllib_portfolio.config.fields import StrictModel
from rllib_portfolio.config.files import SEARCH, with_overrides
from rllib_portfolio.config.user_values import validated
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.shown_text import quoted

_REFUSED = {
    "market": "all trials must be judged on the same prices, dates and features",
    "schedule": "all trials must have the same length and evaluations: see --max-steps and --report-interval",
    "resources": "resources do not change the policy of a trial",
    "seed": "the best seed would be luck: the best trials are trained again on fresh seeds",
    "algo": "each algorithm has a search of its own",
}
_MARKET_MODEL = frozenset((*ExecutionConfig.model_fields, "action_mode"))


class Range(StrictModel):
    """A closed interval, of integers if both ends are integers."""

    low: int | float
    high: int | float
    log: bool = False
    """Sample the logarithm uniformly."""

    @model_validator(mode="after")
    def _is_not_empty(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low must be positive on a log scale, got {self.low}")
        return self

    @property
    def distribution(self) -> optuna.distributions.BaseDistribution:
        """The distribution that Optuna samples from."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return optuna.distributions.IntDistribution(self.low, self.high, log=self.log)
        return optuna.distributions.FloatDistribution(self.low, self.high, log=self.log)

    @property
    def extremes(self) -> tuple[Any, ...]:
        """Both ends and, for fractions, a non-integer between them. If these are valid settings, all values are."""
        if isinstance(self.distribution, optuna.distributions.IntDistribution):
            return self.low, self.high
        return self.low, self.low + (self.high - self.low) / math.pi, self.high


class Choice(StrictModel):
    """One of several values."""

    choices: tuple[Any, ...] = Field(min_length=2)

    @property
    def distribution(self) -> optuna.distributions.BaseDistribution:
        """The distribution that Optuna samples from."""
        return optuna.distributions.CategoricalDistribution([_encoded(value) for value in self.choices])

    @property
    def extremes(self) -> tuple[Any, ...]:
        """All choices, each of which must be a valid setting."""
        return self.choices


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """The ranges and choices of a search, by dotted setting."""

    dimensions: Mapping[str, Range | Choice]

    @classmethod
    def parse(cls, values: object, config: RunConfig, where: str) -> Self:
        """Return the search space of a file's section, after a check against the model of the configuration.

        Args:
            values: The `search` section of a file, which maps dotted settings to {low, high, log} or {choices}.
            config: The configuration that trials start from.
            where: The file, for the error message.

        Raises:
            ConfigError: If there is no setting, or one is malformed, unknown, out of its bounds, or cannot be searched
                since the evaluation of policies depends on it.
        """
        if not isinstance(values, Mapping) or not values:
            raise ConfigError(
                f"{SEARCH} must map settings to {{low, high}} or {{choices}}, got {quoted(values)} ({where}). Add a "
                "section as in tune_configs."
            )
        return cls({str(name): _dimension(str(name), value, config, where) for name, value in values.items()})

    def distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """Return the distributions that Optuna samples from, by dotted setting."""
        return {name: dimension.distribution for name, dimension in self.dimensions.items()}

    def overrides(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings for parameters that Optuna sampled, with sequences decoded."""
        return {name: _decoded(value, self.dimensions[name]) for name, value in params.items()}

    def to_json(self) -> dict[str, Any]:
        """Return the `search` section that `parse` reads, as JSON values."""
        return {name: dimension.model_dump(mode="json") for name, dimension in self.dimensions.items()}


def _dimension(name: str, value: object, config: RunConfig, where: str) -> Range | Choice:
    _require_searchable(name, where)
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{SEARCH}.{name} must be {{low, high}} or {{choices}}, got {quoted(value)} ({where}). Correct it."
        )
    model: type[Range | Choice] = Choice if "choices" in value else Range
    dimension = validated(model, value, f"{where}, {SEARCH}.{name}")
    for extreme in dimension.extremes:
        with_overrides(config, {name: extreme}, f"{where}, {SEARCH}.{name}")
    return dimension


def _require_searchable(name: str, where: str) -> None:
    section, _, setting = name.partition(".")
    reason = _REFUSED.get(section)
    if section == "environment" and setting in _MARKET_MODEL:
        reason = "costs and limits of trading belong to the market, not to the agent"
    if reason is None and not setting:
        reason = "it must name one setting of a section, such as training.gamma"
    if reason is not None:
        raise ConfigError(f"{SEARCH} must not contain {name}: {reason} ({where}). Leave it out.")


def _encoded(value: Any) -> str | int | float | bool | None:
    """Return a value as Optuna can store it: a sequence becomes JSON text."""
    return value if value is None or isinstance(value, str | int | float | bool) else json.dumps(value)


def _decoded(value: Any, dimension: Range | Choice) -> Any:
    if isinstance(dimension, Range):
        return value
    return next(choice for choice in dimension.choices if _encoded(choice) == value)

"""The search space of a configuration file: which settings a search may change, and within which bounds.

    search:
      training.learning_rate: {low: 1.0e-5, high: 1.0e-3, log: true}
      training.target_update_interval: {low: 500, high: 2000}   # whole ends: whole numbers
      network.hidden_sizes: {choices: [[128, 128], [256, 256]]}

What the policy is judged by is no dimension: a search over costs, dates or assets would choose its own exam.
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
    "schedule": "all trials must be as long, and be looked at as often: see --max-steps and --report-interval",
    "resources": "where a trial runs is no property of its policy",
    "seed": "the best seed is luck: the best trials are trained again on fresh ones",
    "algo": "each algorithm has a search of its own",
}
_MARKET_MODEL = frozenset((*ExecutionConfig.model_fields, "action_mode"))


class Range(StrictModel):
    """An interval, both ends included; of whole numbers if both ends are."""

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
        """As Optuna samples it."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return optuna.distributions.IntDistribution(self.low, self.high, log=self.log)
        return optuna.distributions.FloatDistribution(self.low, self.high, log=self.log)

    @property
    def extremes(self) -> tuple[Any, ...]:
        """Values that must be valid settings, so that all between them are: of fractions one that is not whole, too."""
        if isinstance(self.distribution, optuna.distributions.IntDistribution):
            return self.low, self.high
        return self.low, self.low + (self.high - self.low) / math.pi, self.high


class Choice(StrictModel):
    """One of several values."""

    choices: tuple[Any, ...] = Field(min_length=2)

    @property
    def distribution(self) -> optuna.distributions.BaseDistribution:
        """As Optuna samples it."""
        return optuna.distributions.CategoricalDistribution([_encoded(value) for value in self.choices])

    @property
    def extremes(self) -> tuple[Any, ...]:
        """Values that must be valid settings."""
        return self.choices


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """The dimensions of a search, by dotted setting."""

    dimensions: Mapping[str, Range | Choice]

    @classmethod
    def parse(cls, values: object, config: RunConfig, where: str) -> Self:
        """A search space that the configuration's model agrees with.

        Args:
            values: The `search` section of a file: dotted setting to {low, high, log} or {choices}.
            config: The configuration that trials start from.
            where: The file, for errors.

        Raises:
            ConfigError: If there is no dimension, or one is malformed, unknown, out of the setting's bounds, or belongs
                to what policies are judged by.
        """
        if not isinstance(values, Mapping) or not values:
            raise ConfigError(
                f"{SEARCH} must map settings to {{low, high}} or {{choices}}, got {quoted(values)} ({where}). Add a "
                "section as in tune_configs."
            )
        return cls({str(name): _dimension(str(name), value, config, where) for name, value in values.items()})

    def distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """What Optuna samples from."""
        return {name: dimension.distribution for name, dimension in self.dimensions.items()}

    def overrides(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that sampled parameters stand for."""
        return {name: _decoded(value, self.dimensions[name]) for name, value in params.items()}

    def to_json(self) -> dict[str, Any]:
        """As the `search` section that it was parsed from."""
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
        reason = "what trading costs and allows is the market's, not the agent's to choose"
    if reason is None and not setting:
        reason = "a dimension is one setting of a section, as training.gamma is"
    if reason is not None:
        raise ConfigError(f"{SEARCH} must not contain {name}: {reason} ({where}). Leave it out.")


def _encoded(value: Any) -> str | int | float | bool | None:
    """Optuna stores plain values only: sequences become JSON text."""
    return value if value is None or isinstance(value, str | int | float | bool) else json.dumps(value)


def _decoded(value: Any, dimension: Range | Choice) -> Any:
    if isinstance(dimension, Range):
        return value
    return next(choice for choice in dimension.choices if _encoded(choice) == value)

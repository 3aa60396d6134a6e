"""`load_market`, which loads and prepares the market that a configuration names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import pandas as pd
from pydantic import create_model

from rllib_portfolio.config import MarketConfig
from rllib_portfolio.config.fields import StrictModel
from rllib_portfolio.config.market import PATHS_BESIDE_DATA
from rllib_portfolio.config.user_values import user_path, validated
from rllib_portfolio.errors import ConfigError, DataError
from rllib_portfolio.market.data import MarketData
from rllib_portfolio.market.frequency import WEEKDAYS, periods_per_year
from rllib_portfolio.market.lives import universe_of
from rllib_portfolio.market.prepare import prepare_market
from rllib_portfolio.market.sidecars import with_sidecars
from rllib_portfolio.market.simulators.markov import hidden_regime_market, mean_reverting_market, regime_market
from rllib_portfolio.market.simulators.synthetic import (
    bootstrap_market,
    crash_market,
    gbm_market,
    kelly_market,
    signal_market,
    student_t_market,
)
from rllib_portfolio.market.sources import BUNDLED, FRAME, read_table
from rllib_portfolio.market.splits import split
from rllib_portfolio.market.table import PriceTable
from rllib_portfolio.market.validation import plausibility_notes, validate_table

SIMULATORS: dict[str, Callable[..., MarketData]] = {
    "kelly": kelly_market,
    "gbm": gbm_market,
    "crash": crash_market,
    "student_t": student_t_market,
    "regime": regime_market,
    "hidden_regime": hidden_regime_market,
    "mean_reverting": mean_reverting_market,
    "signal": signal_market,
    "bootstrap": bootstrap_market,
}
_INTERNAL = ("config", "fitted")


def load_market(
    config: MarketConfig | str | Mapping[str, Any] | Path | pd.DataFrame = BUNDLED,
    *,
    fitted: Mapping[str, Any] | None = None,
) -> MarketData:
    """Load a market and compute everything that a policy may observe about it.

    Args:
        config: A configuration, a mapping of its values, or only its `data`. `data` is `sp500`, the path of a CSV,
            Parquet or prepared .npz file, or a synthetic market as {source: ..., ...parameters} with a name of
            `SIMULATORS` and the parameters of that function; `bootstrap` resamples a `table` (`sp500` or a path). No
            other setting applies to a prepared file. `data` may also be a DataFrame of prices, with the days as index
            or in a column named date.
        fitted: `MarketData.fitted` of another run. Its scaler and regime models are applied, and nothing is fitted.

    Raises:
        ConfigError: If the configuration cannot be used.
        DataError: If the prices cannot be used.
    """
    frame = None
    if not isinstance(config, MarketConfig):
        config, frame = _configured(config)
    if isinstance(config.data, dict):
        return _simulated(config.data, config, fitted)
    if config.data.endswith(".npz"):
        return _prepared(user_path(config.data), fitted)
    return prepare_market(load_table(config, frame), config, fitted)


def load_table(config: MarketConfig, frame: pd.DataFrame | None = None) -> PriceTable:
    """Return a table of prices, with the files beside it, after checking that its columns look like prices.

    Args:
        config: The source of the prices, and the settings of the checks.
        frame: A DataFrame of prices, which replaces the source in `config`, or None.

    Raises:
        ConfigError: If the configuration does not fit the table.
        DataError: If the table cannot be used.
    """
    return checked_table(read_table(config, frame), config)


def checked_table(table: PriceTable, config: MarketConfig) -> PriceTable:
    """Return a table that was read, with the files beside it and with notes, after checking that it holds prices.

    Args:
        table: The table as `read_table` returns it.
        config: The settings of the checks.

    Raises:
        ConfigError: If the configuration does not fit the table.
        DataError: If the table cannot be used.
    """
    table = with_sidecars(table, config)
    notes = plausibility_notes(validate_table(table, config), config)
    return replace(table, notes=(*table.notes, *notes))


def _configured(given: Any) -> tuple[MarketConfig, pd.DataFrame | None]:
    """Return the configuration for a mapping of values or for `data` alone, and the DataFrame of prices if given."""
    is_values = isinstance(given, Mapping) and "source" not in given
    values = dict(given) if is_values else {"data": given}
    data = values.get("data", BUNDLED)
    if not isinstance(data, str | Path | Mapping | pd.DataFrame):
        kind = type(data).__name__
        remedy = "Make a DataFrame of it: series.to_frame('AAA')" if isinstance(data, pd.Series) else "Name a file"
        raise ConfigError(
            f"market.data must be {BUNDLED}, a path, a DataFrame whose index holds the days, or a mapping with a "
            f"source, got a value of type {kind}. {remedy}."
        )
    frame = data if isinstance(data, pd.DataFrame) else None
    known = FRAME if frame is not None else dict(data) if isinstance(data, Mapping) else str(data)
    return validated(MarketConfig, {**values, "data": known}, "market"), frame


def _prepared(path: Path, fitted: Mapping[str, Any] | None) -> MarketData:
    market = MarketData.load(path)
    if fitted is not None and market.fitted != fitted:
        raise ConfigError(
            f"a prepared market must be fitted as the policy was, got another fit ({path}). Load the prices."
        )
    return market


def _simulated(data: Mapping[str, Any], config: MarketConfig, fitted: Mapping[str, Any] | None) -> MarketData:
    parameters = dict(data)
    source = parameters.pop("source", None)
    if not isinstance(source, str) or source not in SIMULATORS:
        raise ConfigError(f"market.data.source must be one of {', '.join(SIMULATORS)}, got {source!r}.")
    for name in ("assets", *PATHS_BESIDE_DATA):
        if getattr(config, name) is not None:
            raise ConfigError(f"market.{name} must be null for a synthetic market, got {getattr(config, name)!r}.")
    if isinstance(config.cash_rate, str):
        raise ConfigError(f"market.cash_rate must be a number for a synthetic market, got {config.cash_rate!r}.")
    if source == "bootstrap":
        return _resampled(parameters, config, fitted)
    periods = config.periods_per_year or WEEKDAYS
    parameters = {"cash_rate": config.cash_rate, "periods_per_year": periods} | parameters
    return _with_windows(SIMULATORS[source](**_arguments(source, parameters)), config)


def _resampled(parameters: dict[str, Any], config: MarketConfig, fitted: Mapping[str, Any] | None) -> MarketData:
    table = parameters.pop("table", BUNDLED)
    rate = parameters.pop("cash_rate", config.cash_rate)
    settings = ("kind", "date_format", "fill_days", "periods_per_year", "accept_moves")
    values = {"data": table, "cash_rate": rate, **{name: getattr(config, name) for name in settings}}
    table_config = validated(MarketConfig, values, "market.data")
    prices = load_table(table_config)
    if universe_of(validate_table(prices, table_config), table_config) is not None:
        raise DataError(
            f"the table of a bootstrap must have a price of each asset on each day, got a universe that changes "
            f"({prices.source}). Name the assets with a price on each day in a table of their own."
        )
    rows_a_year = periods_per_year(prices.dates, table_config, prices.source)
    own = config.model_copy(update={"cash_rate": rate, "periods_per_year": rows_a_year})
    return bootstrap_market(prices, **_arguments("bootstrap", parameters), config=own, fitted=fitted)


def _arguments(source: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters from a user's file, converted to the types of the simulator's signature."""
    known = [name for name in inspect.signature(SIMULATORS[source]).parameters if name not in _INTERNAL]
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise ConfigError(
            f"market.data of source {source} must have known parameters, got {', '.join(unknown)}. "
            f"Choose from {', '.join(known)}."
        )
    types = get_type_hints(SIMULATORS[source], include_extras=True)
    fields: dict[str, Any] = {name: (types[name], ...) for name in parameters}
    model = create_model("Parameters", __base__=StrictModel, **fields)
    return dict(validated(model, parameters, "market.data"))


def _with_windows(market: MarketData, config: MarketConfig) -> MarketData:
    by_date, windows = split(market.dates, config, market.first_row)
    days = {name: list(window) for name, window in by_date.items()}
    return replace(market, windows=windows, fitted={**market.fitted, "windows": days})

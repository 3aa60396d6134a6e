"""Preparation of `MarketData` from a price table: validate, compute, split, fit on the training window, apply the fit.

Only this module defines the order of these steps. With the `fitted` values of another run nothing is fitted, and these
values are applied to the table; in this way a saved policy reads newer prices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import FeatureConfig, MarketConfig
from rllib_portfolio.config.consent import require_trusted
from rllib_portfolio.config.user_values import validated
from rllib_portfolio.dates import parse_date, rows_between
from rllib_portfolio.errors import ConfigError, DataError
from rllib_portfolio.market.data import MarketData, Window
from rllib_portfolio.market.features import VOLATILITY_DAYS, trailing_volatility
from rllib_portfolio.market.frequency import frequency_notes, periods_per_year, require_windows
from rllib_portfolio.market.lives import booked_returns, universe_notes, universe_of
from rllib_portfolio.market.observed import (
    LIMIT,
    asset_feature_names,
    fit_scalers,
    flagged_features,
    observed_arrays,
)
from rllib_portfolio.market.panel import INDEX_WINDOW, FeaturePanel, compute_panel, nominal_window
from rllib_portfolio.market.plausibility import move_notes
from rllib_portfolio.market.quotes import Quotes
from rllib_portfolio.market.regimes import RegimeModels, fewest_rows
from rllib_portfolio.market.sidecars import costs_and_groups
from rllib_portfolio.market.splits import LARGEST_LAG, DateWindows, RowsNeeded, split
from rllib_portfolio.market.table import PriceTable, data_hash
from rllib_portfolio.market.universe import TRADABLE, Universe
from rllib_portfolio.market.user_features import traded_volumes, user_columns_note
from rllib_portfolio.market.validation import validate_table

LARGEST_USUAL_RATE = 0.1
"""Annual rate of cash above which a note suggests that the rate is in per cent."""


def prepare_market(
    table: PriceTable, config: MarketConfig, fitted: Mapping[str, Any] | None = None, *, is_for_training: bool = True
) -> MarketData:
    """Compute everything that a policy may observe about a market.

    Args:
        table: Prices with their index and extra columns; they are validated first.
        config: Features, windows, cash rate and observation filter.
        fitted: `MarketData.fitted` of another run; its features, filter, scaler and regime models are applied as they
            are. `config.features` must then be the default or the same.
        is_for_training: False to only check a table. Features and volatility are then computed for its first asset
            alone, unless there are custom features, which may depend on all assets, or columns per asset, or the
            universe changes.

    Returns:
        The market. With `fitted`, windows without a row are left out, and an additional window `new` spans the rows
        after the test window.

    Raises:
        DataError: If the table cannot be used.
        ConfigError: If `config` contradicts `fitted`, or its windows are invalid.
    """
    if fitted is not None:
        config = _as_fitted(config, fitted)
    table = validate_table(table, config)
    periods = periods_per_year(table.dates, config, table.source)
    if fitted is None:
        require_windows(periods, config.features, INDEX_WINDOW if table.index is not None else 0, table.source)
    universe = _universe(table, config, fitted)
    is_whole = is_for_training or bool(config.features.custom or table.asset_extra) or universe is not None
    observed = table if is_whole else replace(table, prices=table.prices.iloc[:, :1])
    panel = compute_panel(observed, config.features, universe, config.min_history_days)
    moves = market_log_returns(table, universe)
    by_date, windows = _split(table, config, panel, None if fitted is None else fitted["windows"])
    record = dict(fitted or _fit(observed, moves, panel, config, by_date, windows["train"]))
    regimes = RegimeModels.from_json(record)
    panel = replace(panel, market=panel.market | regimes.probabilities(moves))
    assets, returns, volatility = _moves(table, observed, universe)
    cash_returns = _cash_returns(table, config, periods)
    asset_features, market_features = observed_arrays(panel, record)
    cost_bps, groups = costs_and_groups(table)
    return MarketData(
        dates=table.dates,
        assets=assets,
        returns=returns,
        cash_returns=cash_returns,
        volatility=volatility,
        asset_features=asset_features,
        market_features=market_features,
        asset_feature_names=tuple(record["asset_feature_names"]),
        market_feature_names=tuple(panel.market),
        first_row=panel.first_row,
        windows=windows,
        universe=panel.universe,
        dollar_volume=_dollar_volume(table, universe),
        cost_bps=cost_bps,
        groups=groups,
        index_returns=None if table.index_values is None else _simple_returns(table.index_values),
        periods_per_year=periods,
        fitted=record,
        source=table.source,
        data_hash=_data_hash(table, assets, universe),
        notes=(
            *_notes(table, config),
            *(() if panel.universe is None else universe_notes(table, panel.universe)),
            *frequency_notes(table.dates, periods, config, (panel.slowest, panel.longest_window)),
            _cash_note(cash_returns, periods, config.cash_rate),
            *move_notes(table.dates, assets, returns, config, universe),
            *regimes.notes,
        ),
    )


def _universe(table: PriceTable, config: MarketConfig, fitted: Mapping[str, Any] | None) -> Universe | None:
    """Return the universe of a valid table by listing and membership, or None if it never changes.

    A run that was fitted to a changing universe always gets one, so that its policy finds the feature `tradable`.
    """
    is_needed = fitted is not None and TRADABLE in fitted["asset_feature_names"]
    universe = universe_of(table, config, is_needed=is_needed)
    if universe is not None and fitted is not None and not is_needed:
        raise DataError(
            f"the table must have a price of each asset on each day, as that of the fitted run, got a universe that "
            f"changes ({table.source}). Train on a table whose universe changes, or complete this one."
        )
    return universe


def _moves(
    table: PriceTable, observed: PriceTable, universe: Universe | None
) -> tuple[tuple[str, ...], FloatArray, FloatArray]:
    """Return the assets, their returns, [T, N], and the trailing volatility of the observed ones, [T, N]."""
    assets = tuple(map(str, table.prices.columns))
    if universe is None:
        returns = _simple_returns(table.price_values)
        return assets, returns, trailing_volatility(returns[:, : observed.prices.shape[1]])
    quotes = Quotes.of(universe.quoted)
    simple = _simple_returns(quotes.packed(table.price_values).to_numpy())
    volatility = np.nan_to_num(quotes.unpacked(trailing_volatility(simple)), nan=0.0)
    return assets, booked_returns(quotes.unpacked(simple), universe), volatility


def _dollar_volume(table: PriceTable, universe: Universe | None) -> FloatArray | None:
    """Return the mean of price times volume over the last 21 quotes, [T, N], 0 if unknown; None without volumes."""
    volumes = traded_volumes(table)
    if volumes is None:
        return None
    quoted = ~np.isnan(table.price_values) if universe is None else universe.quoted
    quotes = Quotes.of(quoted)
    traded = quotes.packed(table.price_values * volumes.to_numpy())
    return np.nan_to_num(quotes.unpacked(traded.rolling(VOLATILITY_DAYS, min_periods=1).mean()), nan=0.0)


def _data_hash(table: PriceTable, assets: tuple[str, ...], universe: Universe | None) -> str:
    values = table.price_values
    if universe is not None:
        ends = np.stack([universe.exit_return, universe.is_sold, universe.exit_rows])
        values = np.nan_to_num(np.concatenate([values, universe.member, ends]), nan=-2.0)
    return data_hash(table.dates, assets, values)


def _split(
    table: PriceTable, config: MarketConfig, panel: FeaturePanel, known: DateWindows | None
) -> tuple[DateWindows, dict[str, Window]]:
    """Return the days and the rows of each window; `known` are the days of the windows of an earlier fit."""
    longest = nominal_window(config.features, table.index is not None)
    first_row, purge_days = max(panel.first_row, longest), max(panel.purge_days, longest + LARGEST_LAG)
    needs = RowsNeeded(first_row, purge_days, fewest_rows(config.features))
    by_date, windows = split(table.dates, config, panel.first_row, panel.purge_days, known, needs)
    _require_unseen(table, config, by_date)
    return by_date, windows if known is None else windows | _new_rows(windows, table, by_date)


def _require_unseen(table: PriceTable, config: MarketConfig, by_date: DateWindows) -> None:
    """Raise a ConfigError if an earlier command fitted the table's regimes on days of validation or test."""
    last, first = table.extra_fitted_until, by_date["validation"][0]
    if config.features.user_columns and last is not None and first <= last:
        raise ConfigError(
            f"market.validation must begin after {last}, until when the regimes of this table were fitted, got {first} "
            f"({table.source}). Move the windows, or take the table that this one was made of."
        )


def market_log_returns(table: PriceTable, universe: Universe | None = None) -> FloatArray:
    """Return daily log returns of the index, or of the equal-weight universe if there is none, [T]; row 0 is NaN.

    The equal-weight universe of a day holds the assets with a return from an earlier quote to this close.

    Args:
        table: Valid prices, with or without an index.
        universe: The universe of the table; None for a complete table.
    """
    if table.index_values is not None:
        simple = _simple_returns(table.index_values)
    elif universe is None:
        simple = _simple_returns(table.price_values).mean(axis=1)
    else:
        simple = _mean_returns(table.price_values, Quotes.of(universe.quoted))
    returns = np.log1p(simple)
    returns[0] = np.nan
    return returns


def _mean_returns(prices: FloatArray, quotes: Quotes) -> FloatArray:
    """Return the mean over assets of the returns between two quotes, [T]; 0 without any."""
    has_return = quotes.quoted & (quotes.counts > 1)
    returns = np.where(has_return, quotes.unpacked(_simple_returns(quotes.packed(prices).to_numpy())), 0.0)
    # A sum over the first axis adds one asset after the other, so that assets without a return change no bit.
    total = np.ascontiguousarray(returns.T).sum(axis=0)
    mean: FloatArray = total / np.maximum(has_return.sum(axis=1), 1)
    return mean


def _fit(
    table: PriceTable,
    returns: FloatArray,
    panel: FeaturePanel,
    config: MarketConfig,
    by_date: DateWindows,
    train: Window,
) -> dict[str, Any]:
    """Fit regimes and scaler on the training window; return them and the settings of the fit as JSON values.

    The fit includes the days before the window that its first decision observes. `table` and `panel` have the assets
    whose features are scaled; `returns` are log returns of the market, [T].
    """
    rows = slice(train[0] - 1 - LARGEST_LAG, train[1])
    regimes = RegimeModels.fit(returns, config.features, rows)
    panel = replace(panel, market=panel.market | regimes.probabilities(returns))
    is_scaled = config.observation_filter == "train_window"
    flagged = flagged_features(panel, rows)
    return {
        "features": config.features.model_dump(mode="json"),
        "asset_feature_names": asset_feature_names(panel, flagged),
        "market_feature_names": list(panel.market),
        "observation_filter": config.observation_filter,
        "purge_days": panel.purge_days,
        "windows": {name: list(days) for name, days in by_date.items()},
        "fit_window": [str(table.dates[rows][0]), str(table.dates[rows][-1])],
        "scaler": fit_scalers(panel, table.price_values, rows, table.source) if is_scaled else None,
        "feature_limit": LIMIT,
        **({"flagged_features": flagged} if panel.may_miss_values else {}),
        **({} if panel.universe is None else {"min_history_days": config.min_history_days}),
        **regimes.to_json(),
    }


def _as_fitted(config: MarketConfig, fitted: Mapping[str, Any]) -> MarketConfig:
    features = validated(FeatureConfig, fitted["features"], "fitted features")
    if config.features not in (features, FeatureConfig()):
        raise ConfigError(
            "features must be those of the fitted run, got others. Leave market.features out, or fit again."
        )
    require_trusted(name for name in features.custom if name not in config.features.custom)
    known = {"features": features, "observation_filter": fitted["observation_filter"]}
    if "min_history_days" in fitted:
        known["min_history_days"] = fitted["min_history_days"]
    return config.model_copy(update=known)


def _new_rows(windows: dict[str, Window], table: PriceTable, by_date: DateWindows) -> dict[str, Window]:
    """Return the window `new` with the rows after the test window, if there are any."""
    if "all" not in windows:
        raise DataError(
            f"the table must be longer than the longest feature window, got {len(table.dates)} days ({table.source}). "
            "Put earlier rows before them."
        )
    start, stop = windows["all"]
    first_test, last_test = (parse_date(text, table.dates) for text in by_date["test"])
    _, after_test = rows_between(table.dates, first_test, last_test)
    first = max(start, after_test)
    return {"new": (first, stop)} if first < stop else {}


def _simple_returns(prices: FloatArray) -> FloatArray:
    returns = np.zeros_like(prices)
    returns[1:] = prices[1:] / prices[:-1] - 1.0
    return returns


def _cash_returns(table: PriceTable, config: MarketConfig, periods: int) -> FloatArray:
    """Return the returns of cash, [T]; a rate that is known at t is earned from t to t + 1."""
    if isinstance(config.cash_rate, str):
        annual = table.extra[config.cash_rate].to_numpy(dtype=float)
        annual = np.concatenate([annual[:1], annual[:-1]])
    else:
        annual = np.full(len(table.dates), config.cash_rate)
    per_day: FloatArray = (1.0 + annual) ** (1.0 / periods) - 1.0
    return per_day


def _cash_note(cash_returns: FloatArray, periods: int, rate: float | str) -> str:
    """Return a note with the annual return of cash, which reveals a rate given in per cent."""
    a_year = float(np.prod(1.0 + cash_returns) ** (periods / len(cash_returns)) - 1.0)
    column = f" on average (column {rate})" if isinstance(rate, str) else ""
    doubt = " If the rate is in per cent, divide it by 100." if a_year > LARGEST_USUAL_RATE else ""
    return f"Cash earned {100.0 * a_year:.2f} % a year{column}.{doubt}"


def _notes(table: PriceTable, config: MarketConfig) -> tuple[str, ...]:
    notes = [*table.notes]
    if table.index is None:
        notes.append(
            "There is no index: index features and the index row are left out; regimes use the equal-weight universe."
        )
    if (note := user_columns_note(table, config.features)) is not None:
        notes.append(note)
    return tuple(notes)

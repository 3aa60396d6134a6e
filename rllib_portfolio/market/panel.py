"""`FeaturePanel`: the features of a table side by side, before they are standardised."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import FeatureConfig
from rllib_portfolio.market.custom_features import custom_feature
from rllib_portfolio.market.features import (
    VOLATILITY_DAYS,
    asset_features,
    cross_sectional_ranks,
    index_features,
    warm_up,
)
from rllib_portfolio.market.liquidity import volume_features, volume_window
from rllib_portfolio.market.quotes import Quotes
from rllib_portfolio.market.splits import LARGEST_LAG
from rllib_portfolio.market.table import PriceTable
from rllib_portfolio.market.universe import BoolArray, Universe
from rllib_portfolio.market.user_features import traded_volumes, user_asset_features, user_market_features

ASSET_OUTLIER = 7.5
"""Threshold for the values of all assets, in median absolute deviations: 5 standard deviations of a Gaussian."""

LONE_OUTLIER = 30.0
"""Threshold for the index, whose crises are genuine, and for user features, whose distribution is unknown."""
INDEX_WINDOW = 252
"""Longest window of the features of the index, in rows."""


@dataclass(frozen=True, slots=True)
class FeaturePanel:
    """Features of N assets and of the market over T days."""

    asset: dict[str, FloatArray]
    """Maps names to values [T, N], NaN in the warm-up."""
    market: dict[str, FloatArray]
    """Maps names to values [T], NaN in the warm-up."""
    shape: tuple[int, int]
    """(T, N)."""
    slowest: str
    """Name of the feature with the longest window."""
    longest_window: int
    """Length of this window in rows."""
    first_row: int
    """First row at which every feature is defined, with a universe for at least one member; later if a user column
    starts late."""
    outliers: Mapping[str, float] = field(default_factory=dict)
    """Maps names to the threshold that `Scaler.fit` applies. Ranks have no outliers, and rare values of a probability
    or of a user's column may carry its information."""
    universe: Universe | None = None
    """The universe of the table, whose members have their history; None for a complete table."""
    may_miss_values: bool = False
    """Whether asset features may be NaN after `first_row`: those that are not known, and those of assets that cannot be
    bought on the day."""

    @property
    def purge_days(self) -> int:
        """Number of rows between two windows, so that no observation of the later one includes days of the earlier."""
        return self.longest_window + LARGEST_LAG

    def arrays(self, *, with_assets: bool = True) -> tuple[FloatArray, FloatArray]:
        """Return asset features [T, N, F] and market features [T, M], NaN in the warm-up.

        Args:
            with_assets: False to leave the asset features out, which then have F = 0.
        """
        is_stacked = with_assets and self.asset
        asset = np.stack([*self.asset.values()], axis=-1) if is_stacked else np.empty((*self.shape, 0))
        market = np.stack([*self.market.values()], axis=-1) if self.market else np.empty((self.shape[0], 0))
        return asset, market


def compute_panel(
    table: PriceTable, config: FeatureConfig, universe: Universe | None = None, min_history_days: int | None = None
) -> FeaturePanel:
    """Compute the configured features of a table, except its regimes, which need a training window.

    With a universe, features of prices are those of the quotes of each asset alone. They are missing on days on which
    the asset cannot be bought, so that they do not tell a halt from an end before it is known.

    Args:
        table: Prices of N assets over T days, with index and extra columns.
        config: The features and their windows.
        universe: The universe of the table by listing and membership; None for a complete table.
        min_history_days: Quotes that a member needs before its latest one; None for all that its features need.

    Raises:
        ConfigError: If there is no function for a custom feature, or the table lacks what a feature needs.
        DataError: If the result of a custom feature cannot be used, see `custom_feature`.
    """
    asset = _asset_features(table, config, universe)
    market: dict[str, FloatArray] = {}
    if config.index and table.index is not None:
        market = {name: np.asarray(values, dtype=float) for name, values in index_features(table.index).items()}
    outliers = dict.fromkeys(asset, ASSET_OUTLIER) | dict.fromkeys(market, LONE_OUTLIER)
    for name in config.custom:
        values = custom_feature(name, _carried_prices(table.prices, universe))
        (asset if isinstance(values, pd.DataFrame) else market)[name] = np.asarray(values, dtype=float)
    outliers |= {name: LONE_OUTLIER for name in config.custom if name in asset}
    windows = {"volatility": VOLATILITY_DAYS, **{name: _window(each, universe) for name, each in asset.items()}}
    windows |= {name: warm_up(values) for name, values in market.items()}
    of_volumes, user = _volume_features(table, config, universe), user_market_features(table, config)
    own = of_volumes | user_asset_features(table, config)
    windows |= dict.fromkeys(of_volumes, volume_window(config))
    windows["available_lag"] = config.largest_lag if own or user else 0
    slowest = max(windows, key=lambda name: windows[name])
    first_rows = [windows[slowest]]
    if universe is not None:
        universe = with_history(universe, asset.values(), min_history_days)
        first_member = _first_true(np.asarray(universe.member.any(axis=1)))
        first_rows = [first_member, VOLATILITY_DAYS, *(windows[name] for name in market)]
    asset = _comparable(asset, own, config, universe)
    return FeaturePanel(
        asset=asset,
        market={**market, **user},
        shape=(len(table.prices), table.prices.shape[1]),
        slowest=slowest if slowest in (*asset, *market, "volatility", "available_lag") else f"{slowest}_rank",
        longest_window=windows[slowest],
        first_row=max([*first_rows, *map(warm_up, user.values())]),
        outliers=outliers,
        universe=universe,
        may_miss_values=universe is not None or bool(own),
    )


def _asset_features(table: PriceTable, config: FeatureConfig, universe: Universe | None) -> dict[str, FloatArray]:
    """Return the features of prices, each [T, N]; with a universe, those of the quotes of each asset alone."""
    if universe is None:
        features = asset_features(table.prices, config, table.index)
        return {name: np.asarray(values, dtype=float) for name, values in features.items()}
    quotes, levels = Quotes.of(universe.quoted), table.index_values
    index = None if levels is None else quotes.packed(np.broadcast_to(levels[:, None], universe.quoted.shape))
    packed = asset_features(quotes.packed(table.price_values), config, index)
    return {name: quotes.unpacked(values) for name, values in packed.items()}


def _volume_features(table: PriceTable, config: FeatureConfig, universe: Universe | None) -> dict[str, FloatArray]:
    """Return the features of volume, each [T, N]; with a universe, those of the quotes of each asset alone."""
    volumes = traded_volumes(table)
    if universe is None:
        features = volume_features(table.prices, volumes, config)
        return {name: np.asarray(values, dtype=float) for name, values in features.items()}
    quotes = Quotes.of(universe.quoted)
    known = None if volumes is None else quotes.packed(volumes.to_numpy())
    packed = volume_features(quotes.packed(table.price_values), known, config)
    return {name: quotes.unpacked(values) for name, values in packed.items()}


def _carried_prices(prices: pd.DataFrame, universe: Universe | None) -> pd.DataFrame:
    """Return prices in which a halted asset keeps its last one, so that its windows stay full."""
    return prices if universe is None else prices.ffill().where(universe.listed)


def _window(values: FloatArray, universe: Universe | None) -> int:
    """Return how many rows a feature of assets, [T, N], needs before its first value; T if it has none."""
    if universe is None:
        return warm_up(values)
    num_before = np.cumsum(universe.quoted, axis=0) - 1
    return int(num_before.min(where=~np.isnan(values), initial=len(values)))


def with_history(universe: Universe, features: Iterable[FloatArray], min_history_days: int | None) -> Universe:
    """Return the universe in which an asset becomes a member only when it has its history.

    Args:
        universe: The universe by listing and membership.
        features: The features of prices, each [T, N], NaN where they are not defined.
        min_history_days: Quotes that a member needs before its latest one; None for as many as the trailing volatility
            and all features need.
    """
    num_before = np.cumsum(universe.quoted, axis=0) - 1
    if min_history_days is not None:
        has_history = num_before >= min_history_days
    else:
        has_history = num_before >= VOLATILITY_DAYS
        for values in features:
            has_history &= np.logical_or.accumulate(~np.isnan(values), axis=0)
    return replace(universe, member=universe.member & has_history)


def _comparable(
    asset: dict[str, FloatArray], own: dict[str, FloatArray], config: FeatureConfig, universe: Universe | None
) -> dict[str, FloatArray]:
    """Return features of prices and the user's own, NaN where an asset cannot be bought, as values or as ranks."""
    features = asset | own
    if universe is not None:
        features = {name: np.where(universe.tradable, values, np.nan) for name, values in features.items()}
    if config.cross_section == "values":
        return features
    may_miss = own if universe is None else features
    return {
        f"{name}_rank": ranks_among_known(values) if name in may_miss else cross_sectional_ranks(values)
        for name, values in features.items()
    }


def ranks_among_known(values: FloatArray) -> FloatArray:
    """Return ranks from -1 to 1 among the assets of each row that have a value, [T, N]; NaN for the others.

    Without missing values these are `cross_sectional_ranks`.
    """
    ranks = pd.DataFrame(values).rank(axis=1).to_numpy()
    counts = (~np.isnan(values)).sum(axis=1, keepdims=True)
    return np.asarray((2.0 * ranks - counts - 1.0) / np.maximum(counts - 1, 1))


def _first_true(rows: BoolArray) -> int:
    """Return the first row that is true, or the number of rows if there is none."""
    return int(rows.argmax()) if rows.any() else len(rows)


def nominal_window(config: FeatureConfig, has_index: bool) -> int:
    """Return the longest feature window in rows, without user features.

    It does not depend on the length of a table, which may be too short for it.

    Args:
        config: The features and their windows.
        has_index: Whether the table has an index.
    """
    windows = [VOLATILITY_DAYS, *config.log_return_days, *config.momentum_days, *config.volatility_days]
    windows += [days - 1 for days in (*config.moving_average_days, config.drawdown_days or 1)]
    windows += [config.rsi_days or 0, INDEX_WINDOW if config.index and has_index else 0]
    windows += [config.max_return_days or 0, config.beta_days or 0, config.residual_volatility_days or 0]
    windows += [config.long_momentum_days[1] if config.long_momentum_days else 0, config.largest_lag]
    windows.append(volume_window(config))
    if config.macd_days is not None:
        windows.append(config.macd_days[1] + config.macd_days[2] - 2)
    return max(windows)

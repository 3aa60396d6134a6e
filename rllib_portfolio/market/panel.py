"""`FeaturePanel`: the features of a table side by side, before and after standardisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import FeatureConfig
from rllib_portfolio.errors import DataError
from rllib_portfolio.market.custom_features import custom_feature
from rllib_portfolio.market.features import (
    VOLATILITY_DAYS,
    asset_features,
    cross_sectional_ranks,
    index_features,
    warm_up,
)
from rllib_portfolio.market.scaling import Scaler
from rllib_portfolio.market.splits import LARGEST_LAG
from rllib_portfolio.market.table import PriceTable

LIMIT = 32.0
"""Largest standardised value; in the bundled universe, a day on which a stock lost half of its price has 30."""

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
    """First row at which every feature is defined; later if a user column starts late."""
    outliers: Mapping[str, float] = field(default_factory=dict)
    """Maps names to the threshold that `Scaler.fit` applies. Ranks have no outliers, and rare values of a probability
    or of a user's column may carry its information."""

    @property
    def purge_days(self) -> int:
        """Number of rows between two windows, so that no observation of the later one includes days of the earlier."""
        return self.longest_window + LARGEST_LAG

    def arrays(self) -> tuple[FloatArray, FloatArray]:
        """Return asset features [T, N, F] and market features [T, M], NaN in the warm-up."""
        asset = np.stack([*self.asset.values()], axis=-1) if self.asset else np.empty((*self.shape, 0))
        market = np.stack([*self.market.values()], axis=-1) if self.market else np.empty((self.shape[0], 0))
        return asset, market


def compute_panel(table: PriceTable, config: FeatureConfig) -> FeaturePanel:
    """Compute the configured features of a table, except its regimes, which need a training window.

    Args:
        table: Prices of N assets over T days, with index and extra columns.
        config: The features and their windows.

    Raises:
        ConfigError: If there is no function for a custom feature.
        DataError: If the result of a custom feature cannot be used, see `custom_feature`.
    """
    asset = {name: np.asarray(values, dtype=float) for name, values in asset_features(table.prices, config).items()}
    market: dict[str, FloatArray] = {}
    if config.index and table.index is not None:
        market = {name: np.asarray(values, dtype=float) for name, values in index_features(table.index).items()}
    outliers = dict.fromkeys(asset, ASSET_OUTLIER) | dict.fromkeys(market, LONE_OUTLIER)
    for name in config.custom:
        values = custom_feature(name, table.prices)
        (asset if isinstance(values, pd.DataFrame) else market)[name] = np.asarray(values, dtype=float)
    outliers |= {name: LONE_OUTLIER for name in config.custom if name in asset}
    if config.cross_section == "ranks":
        asset = {f"{name}_rank": cross_sectional_ranks(values) for name, values in asset.items()}
    windows = {"volatility": VOLATILITY_DAYS, **{name: warm_up(values) for name, values in (asset | market).items()}}
    slowest = max(windows, key=lambda name: windows[name])
    user: dict[str, FloatArray] = {}
    if config.user_columns:
        user = {f"user_{name}": np.asarray(table.extra[name], dtype=np.float64) for name in table.extra.columns}
    first_row = max([windows[slowest], *map(warm_up, user.values())])
    shape = (len(table.prices), table.prices.shape[1])
    return FeaturePanel(asset, {**market, **user}, shape, slowest, windows[slowest], first_row, outliers)


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
    if config.macd_days is not None:
        windows.append(config.macd_days[1] + config.macd_days[2] - 2)
    return max(windows)


def fit_scalers(panel: FeaturePanel, prices: FloatArray, rows: slice) -> dict[str, Any]:
    """Return the moments of asset features and market features on the training rows, as JSON values.

    Args:
        panel: Features of N assets and of the market over T days.
        prices: Prices of the same assets, [T, N].
        rows: Training rows, none of which lies in the warm-up.
    """
    asset, market = panel.arrays()
    usual_moves = np.median(np.abs(np.diff(np.log(prices[rows]), axis=0)), axis=0)
    outliers = [[panel.outliers.get(name) for name in names] for names in (panel.asset, panel.market)]
    return {
        "asset": asdict(Scaler.fit(asset[rows], outliers[0], usual_moves)),
        "market": asdict(Scaler.fit(market[rows], outliers[1])),
    }


def observed_arrays(panel: FeaturePanel, fitted: Mapping[str, Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the feature arrays of a market: standardised and limited by `fitted`, and 0 before `first_row`.

    Args:
        panel: Features of N assets and of the market over T days.
        fitted: Names of the features, scalers and limit, as in `MarketData.fitted`.

    Returns:
        The asset features, float32 [T, N, F], and the market features, float32 [T, M].

    Raises:
        DataError: If the table does not have the features that `fitted` was fitted on.
    """
    observed = []
    limit = fitted.get("feature_limit", np.inf)  # fits of earlier versions have no limit
    for kind, values, names in zip(("asset", "market"), panel.arrays(), (panel.asset, panel.market), strict=True):
        if list(names) != fitted[f"{kind}_feature_names"]:
            differing = sorted(set(names) ^ set(fitted[f"{kind}_feature_names"]))
            raise DataError(
                f"{kind} features must be those of the fitted run, got a difference in {', '.join(differing)}. "
                "Give the table the same index and user columns."
            )
        if fitted["scaler"] is not None:
            values = np.clip(Scaler(**fitted["scaler"][kind]).apply(values), -limit, limit)
        single = values.astype(np.float32, order="C")  # so that the features of a day lie side by side
        single[: panel.first_row] = 0.0
        observed.append(single)
    return observed[0], observed[1]

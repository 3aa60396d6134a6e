"""The user's own columns as features, of the market and per asset. Nobody can prove that they know no future."""

from __future__ import annotations

import pandas as pd

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import FeatureConfig
from rllib_portfolio.errors import ConfigError, DataError
from rllib_portfolio.market.liquidity import VOLUME
from rllib_portfolio.market.table import PriceTable


def user_asset_features(table: PriceTable, config: FeatureConfig) -> dict[str, FloatArray]:
    """Return the user's columns per asset by name, `user_<column>`, each [T, N].

    The value of row t is used at row t + `available_lag`, so that the first rows are NaN.

    Args:
        table: Prices of N assets over T days with `asset_extra`.
        config: Whether user columns are used, and their lags.

    Raises:
        ConfigError: If `available_lag` names a column that the table does not have.
    """
    _require_known(table, config)
    if not config.user_columns:
        return {}
    assets = table.prices.columns
    frames = {name: frame[assets].shift(config.lag_of(name)) for name, frame in table.asset_extra.items()}
    return {f"user_{name}": frame.to_numpy(dtype=float) for name, frame in frames.items()}


def user_market_features(table: PriceTable, config: FeatureConfig) -> dict[str, FloatArray]:
    """Return the user's columns of the market by name, `user_<column>`, each [T].

    Args:
        table: The table that holds the columns.
        config: Whether they are used, and their lags.
    """
    if not config.user_columns:
        return {}
    columns = {str(name): column.shift(config.lag_of(str(name))) for name, column in table.extra.items()}
    return {f"user_{name}": column.to_numpy(dtype=float) for name, column in columns.items()}


def traded_volumes(table: PriceTable) -> pd.DataFrame | None:
    """Return the number of traded shares in each row, [T, N], or None if the table has no column `volume` per asset.

    Raises:
        DataError: If a volume is negative; names asset and day.
    """
    column_name = next((name for name in table.asset_extra if name.strip().lower() == VOLUME), None)
    if column_name is None:
        return None
    volumes = table.asset_extra[column_name][table.prices.columns].astype(float)
    negative = volumes.lt(0.0).to_numpy()
    if negative.any():
        row, column = divmod(int(negative.argmax()), volumes.shape[1])
        raise DataError(
            f"{column_name} must be at least 0, got {volumes.to_numpy()[row, column]:g} ({table.source}, "
            f"{volumes.columns[column]}, {table.dates[row]}). Correct it, or leave the cell empty."
        )
    return volumes


def user_columns_note(table: PriceTable, config: FeatureConfig) -> str | None:
    """Return the sentence with which reports name the user's columns and their lags; None if none is used.

    Args:
        table: The table that holds the columns.
        config: Whether they are used, and their lags.
    """
    columns = {str(name): str(name) for name in table.extra.columns}
    columns |= {name: f"{name} per asset" for name in table.asset_extra}
    if not config.user_columns or not columns:
        return None
    lags = {name: config.lag_of(name) for name in columns}
    names = ", ".join(f"{text}, {lags[name]} rows late" if lags[name] else text for name, text in columns.items())
    return f"User columns are read as features ({names}); it cannot be proven that they were known on their dates."


def _require_known(table: PriceTable, config: FeatureConfig) -> None:
    lags, known = config.available_lag, [*map(str, table.extra.columns), *table.asset_extra]
    names = {name.strip().lower() for name in known}
    unknown = [name for name in lags if name.strip().lower() not in names] if isinstance(lags, dict) else []
    if unknown:
        raise ConfigError(
            f"market.features.available_lag must name columns of the table, got {', '.join(unknown)} ({table.source}). "
            f"Its columns are: {', '.join(known) or 'none'}."
        )

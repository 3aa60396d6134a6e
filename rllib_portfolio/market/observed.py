"""Features as a policy observes them: standardised by the training window, with flags where values may be missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.errors import DataError
from rllib_portfolio.market.panel import FeaturePanel
from rllib_portfolio.market.scaling import Scaler
from rllib_portfolio.market.universe import TRADABLE

LIMIT = 32.0
"""Largest standardised value; in the bundled universe, a day on which a stock lost half of its price has 30."""


def flagged_features(panel: FeaturePanel, rows: slice) -> list[str]:
    """Return the names of the asset features that miss a value of an asset that can be bought, in the training rows.

    Each of them gets a presence flag: a feature `<name>_known`, which is 1 where there is a value.

    Args:
        panel: Features of N assets and of the market over T days.
        rows: Training rows, none of which lies in the warm-up.
    """
    if not panel.may_miss_values:
        return []
    active = np.True_ if panel.universe is None else panel.universe.tradable[rows]
    return [name for name, values in panel.asset.items() if (np.isnan(values[rows]) & active).any()]


def asset_feature_names(panel: FeaturePanel, flagged: Sequence[str]) -> list[str]:
    """Return the names of all asset features that are observed: values, presence flags, and `tradable` if it varies.

    Args:
        panel: Features of N assets over T days.
        flagged: Names of the features that have a presence flag.
    """
    return [*panel.asset, *(f"{name}_known" for name in flagged), *([] if panel.universe is None else [TRADABLE])]


def fit_scalers(panel: FeaturePanel, prices: FloatArray, rows: slice, source: str) -> dict[str, Any]:
    """Return the moments of asset features and market features on the training rows, as JSON values.

    Args:
        panel: Features of N assets and of the market over T days.
        prices: Prices of the same assets, [T, N].
        rows: Training rows, none of which lies in the warm-up.
        source: Where the table came from, for messages.

    Raises:
        DataError: If a feature has no value in these rows.
    """
    outliers = [[panel.outliers.get(name) for name in names] for names in (panel.asset, panel.market)]
    if panel.may_miss_values:
        asset, market = _fit_known(panel, prices, rows, source), panel.arrays(with_assets=False)[1]
    else:
        values, market = panel.arrays()
        usual_moves = np.median(np.abs(np.diff(np.log(prices[rows]), axis=0)), axis=0)
        asset = Scaler.fit(values[rows], outliers[0], usual_moves)
    return {"asset": asdict(asset), "market": asdict(Scaler.fit(market[rows], outliers[1]))}


def _fit_known(panel: FeaturePanel, prices: FloatArray, rows: slice, source: str) -> Scaler:
    """Return the moments of each asset feature over its known values of assets that can be bought."""
    moves = np.abs(np.diff(np.log(prices[rows]), axis=0))
    usual_moves = np.full(moves.shape[1], np.nan)
    has_moved = ~np.isnan(moves).all(axis=0)
    usual_moves[has_moved] = np.nanmedian(moves[:, has_moved], axis=0)
    mean, scale = [], []
    for name, values in panel.asset.items():
        is_known = ~np.isnan(values[rows])
        if not is_known.any():
            raise DataError(
                f"{name} must have a value of an asset that can be bought in the training window, got none ({source}). "
                "Choose a later window, or leave the feature out."
            )
        units = np.broadcast_to(usual_moves, is_known.shape)[is_known]
        fitted = Scaler.fit(values[rows][is_known][:, None], [panel.outliers.get(name)], units)
        mean += fitted.mean
        scale += fitted.scale
    return Scaler(mean, scale)


def observed_arrays(panel: FeaturePanel, fitted: Mapping[str, Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the feature arrays of a market: standardised and limited by `fitted`, and 0 before `first_row`.

    Missing values of asset features are 0 after the standardisation. Presence flags and `tradable` are 0 or 1.

    Args:
        panel: Features of N assets and of the market over T days.
        fitted: Names of the features, scalers and limit, as in `MarketData.fitted`.

    Returns:
        The asset features, float32 [T, N, F], and the market features, float32 [T, M].

    Raises:
        DataError: If the table does not have the features that `fitted` was fitted on.
    """
    flagged = fitted.get("flagged_features", [])
    _require_features(panel, fitted, asset_feature_names(panel, flagged))
    limit = fitted.get("feature_limit", np.inf)  # fits of earlier versions have no limit
    scalers = {kind: fitted["scaler"] and Scaler(**fitted["scaler"][kind]) for kind in ("asset", "market")}
    values, market_values = panel.arrays(with_assets=not panel.may_miss_values)
    market = _standardised(market_values, scalers["market"], limit)
    if panel.may_miss_values:
        asset = _known_values(panel, scalers["asset"], limit, flagged)
    else:
        asset = _standardised(values, scalers["asset"], limit)
    asset[: panel.first_row] = 0.0
    market[: panel.first_row] = 0.0
    return asset, market


def _standardised(values: FloatArray, scaler: Scaler | None, limit: float) -> NDArray[np.float32]:
    scaled = values if scaler is None else np.clip(scaler.apply(values), -limit, limit)
    return scaled.astype(np.float32, order="C")  # so that the features of a day lie side by side


def _known_values(
    panel: FeaturePanel, scaler: Scaler | None, limit: float, flagged: Sequence[str]
) -> NDArray[np.float32]:
    """Return the asset features, 0 where they are missing, their presence flags, and `tradable`, float32 [T, N, F]."""
    names = asset_feature_names(panel, flagged)
    single = np.zeros((*panel.shape, len(names)), dtype=np.float32)
    for column, values in enumerate(panel.asset.values()):
        if scaler is not None:
            values = np.clip((values - scaler.mean[column]) / scaler.scale[column], -limit, limit)
        single[..., column] = np.nan_to_num(values, nan=0.0)
    for column, name in enumerate(flagged, start=len(panel.asset)):
        single[..., column] = ~np.isnan(panel.asset[name])
    if panel.universe is not None:
        single[..., -1] = panel.universe.tradable
    return single


def _require_features(panel: FeaturePanel, fitted: Mapping[str, Any], asset_names: list[str]) -> None:
    for kind, names in (("asset", asset_names), ("market", list(panel.market))):
        if names != fitted[f"{kind}_feature_names"]:
            differing = sorted(set(names) ^ set(fitted[f"{kind}_feature_names"]))
            raise DataError(
                f"{kind} features must be those of the fitted run, got a difference in {', '.join(differing)}. "
                "Give the table the same index and user columns."
            )

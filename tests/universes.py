"""Markets with a universe, made directly from arrays, for tests of what follows the preparation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.market import MarketData
from rllib_portfolio.market.features import trailing_volatility
from rllib_portfolio.market.universe import TRADABLE, Universe


def universe_market(
    num_days: int = 120, num_assets: int = 5, seed: int = 0, *, first_row: int = 3, **masks: NDArray[Any]
) -> MarketData:
    """Return a random market in which assets list late, leave, are halted and lose membership.

    Asset 0 is always listed, a member and quoted. Of the others, about a third lists late, a third leaves (one of them
    with a return of -1), a few rows are halts, and membership is lost for some rows. `masks` replace fields of the
    universe. Features are the last return and `tradable`, and one column of noise for the market.
    """
    rng = np.random.default_rng(seed)
    listed = np.ones((num_days, num_assets), dtype=bool)
    exit_return = np.full(num_assets, np.nan)
    for i in range(1, num_assets):
        if i % 3 == 1:
            listed[: int(rng.integers(2, num_days // 2)), i] = False
        if i % 3 == 2:
            listed[int(rng.integers(num_days // 2, num_days - 2)) :, i] = False
            exit_return[i] = -1.0 if i == 2 else float(rng.normal(0.0, 0.1))
    halted = rng.random(listed.shape) < 0.05
    lost = np.repeat(rng.random((num_days // 10 + 1, num_assets)) < 0.2, 10, axis=0)[:num_days]
    halted[:, 0] = lost[:, 0] = False
    first = listed & ~np.vstack([np.zeros((1, num_assets), bool), listed[:-1]])
    last = listed & ~np.vstack([listed[1:], listed[-1:]])
    given: dict[str, Any] = {
        "listed": listed,
        "member": listed & ~lost,
        "quoted": (listed & ~halted) | first | last,
        "exit_return": exit_return,
        "is_sold": np.arange(num_assets) % 6 == 5,
    }
    universe = Universe(**{**given, **masks})
    returns = universe_returns(rng.normal(5e-4, 0.02, listed.shape), universe)
    volatility = np.where(universe.listed, trailing_volatility(returns), 0.0)
    features = np.stack([returns, universe.tradable], axis=-1).astype(np.float32)
    features[:first_row] = 0.0
    noise = rng.normal(size=(num_days, 1)).astype(np.float32)
    return MarketData(
        dates=np.datetime64("2001-01-01") + np.arange(num_days),
        assets=tuple(f"A{i}" for i in range(num_assets)),
        returns=returns,
        cash_returns=np.full(num_days, 1e-4),
        volatility=volatility,
        asset_features=features,
        market_features=noise,
        asset_feature_names=("last_return", TRADABLE),
        market_feature_names=("noise",),
        first_row=first_row,
        windows={"all": (first_row + 2, num_days), "train": (first_row + 2, num_days)},
        universe=universe,
    )


def universe_returns(daily: NDArray[Any], universe: Universe) -> NDArray[np.float64]:
    """Return the returns, [T, N], that `MarketData` holds for the underlying `daily` returns, [T, N].

    They are 0 outside of a life, on its first row, and without a quote; a halt's compounded return is booked on the
    first quote after it, and the exit return on the first row after a life.
    """
    returns = np.zeros_like(daily)
    num_days, num_assets = daily.shape
    for i in range(num_assets):
        level = quoted_level = 1.0
        for t in range(num_days):
            was_listed = t > 0 and universe.listed[t - 1, i]
            if universe.listed[t, i]:
                level *= 1.0 + daily[t, i] if was_listed else 1.0
                if universe.quoted[t, i]:
                    returns[t, i] = level / quoted_level - 1.0 if was_listed else 0.0
                    quoted_level = level
            elif was_listed:
                returns[t, i] = universe.exit_return[i]
                level = quoted_level = 1.0
    return returns

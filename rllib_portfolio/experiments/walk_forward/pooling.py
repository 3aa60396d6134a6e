"""One continuous back-test over the test windows of all folds.

The policy of each fold decides on the days of its test window, with the scaler and the regime models of that fold.
Weights drift across the boundary between two folds, and the rebalancing to the next policy pays transaction costs like
any trade. The portfolio does not start in cash again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.backtest.engine import BacktestResult
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData, Window
from rllib_portfolio.policies.strategy import MarketView, MarketViewer, Strategy


@dataclass(frozen=True, eq=False)
class FoldPolicy:
    """The policy that decides in one test window.

    Attributes:
        market: The market as it was prepared for this fold.
        test: Half-open range of the rows whose returns the policy earns.
        policy: The policy of the fold, which is usually an `Ensemble` of several seeds.
    """

    market: MarketData
    test: Window
    policy: Strategy


class PooledPolicy:
    """A `Strategy` for the days of several folds: the policy of a fold decides on the days of that fold.

    Each policy sees the weights of this strategy's single portfolio and the features of its own fold's market. On days
    that belong to no fold, the portfolio is held.

    Args:
        name: Row label.
        folds: The policies in chronological order.

    Raises:
        ConfigError: If the folds overlap, or their markets differ in days or returns.
    """

    def __init__(self, name: str, folds: Sequence[FoldPolicy]) -> None:
        _require_same_days([fold.market for fold in folds])
        for before, after in itertools.pairwise(folds):
            if after.test[0] < before.test[1]:
                raise ConfigError(
                    f"folds must follow each other, got test windows {before.test} and {after.test} ({name}). "
                    "Order them by date."
                )
        self.name = name
        self._folds = tuple(folds)
        self._viewers: dict[tuple[int, int], MarketViewer] = {}

    def decide(self, view: MarketView) -> FloatArray | None:
        """Return the target weights [N+1], or None to hold the portfolio."""
        earned = view.row + 1
        index = next((k for k, fold in enumerate(self._folds) if fold.test[0] <= earned < fold.test[1]), None)
        if index is None:
            return None
        return self._folds[index].policy.decide(self._own_view(index, view))

    def _own_view(self, index: int, view: MarketView) -> MarketView:
        """Return the view of the same row, with the same execution lag, in the market of fold `index`."""
        execution_lag = view.row - len(view.past_returns)
        key = (index, execution_lag)
        if key not in self._viewers:
            self._viewers[key] = MarketViewer(self._folds[index].market, execution_lag)
        (own,) = self._viewers[key].views(view.row, view.is_first, view.weights[None])
        return own


def _require_same_days(markets: Sequence[MarketData]) -> None:
    """Raise a `ConfigError` unless all markets have the same days, assets, returns and volatilities in each row."""
    for market in markets[1:]:
        for name in ("dates", "assets", "returns", "cash_returns", "volatility"):
            if not np.array_equal(getattr(market, name), getattr(markets[0], name)):
                raise ConfigError(
                    f"markets of all folds must have the same {name}, got others ({market.source}). Prepare them from "
                    "one table."
                )


def missing_rows(window: Window, tests: Iterable[Window]) -> NDArray[np.intp]:
    """Return the rows of a window that lie in none of the test windows, in increasing order.

    Args:
        window: Half-open range of rows.
        tests: Half-open ranges of rows of the test windows.
    """
    start, stop = window
    is_missing = np.ones(stop - start, dtype=bool)
    for first, last in tests:
        is_missing[max(first, start) - start : max(last, start) - start] = False
    return start + np.flatnonzero(is_missing)


def without_days(result: BacktestResult, days: NDArray[np.datetime64]) -> BacktestResult:
    """Return a back-test without the returns, trades and costs of some days.

    Args:
        result: The back-test.
        days: The days or moments to leave out, datetime64; other days are ignored.
    """
    kept = ~np.isin(result.dates, days)
    names = ("dates", "returns", "weights", "turnover", "traded", "cost")
    wealth = np.concatenate([[1.0], np.cumprod(1.0 + result.returns[kept])])
    members = None if result.members is None else result.members[kept]
    return replace(result, wealth=wealth, members=members, **{name: getattr(result, name)[kept] for name in names})


def without_rows(market: MarketData, rows: NDArray[np.intp]) -> MarketData:
    """Return a market without some of its rows and with shorter windows, to match the results of `without_days`.

    Args:
        market: The market.
        rows: The rows to leave out.
    """
    kept = np.delete(np.arange(market.num_days), rows)
    series = ("dates", "cash_returns", "market_features", "index_returns")
    names = (*series, "returns", "volatility", "asset_features", "dollar_volume")
    arrays: dict[str, Any] = {name: getattr(market, name)[kept] for name in names if getattr(market, name) is not None}
    windows = {
        name: (int(np.searchsorted(kept, start)), int(np.searchsorted(kept, stop)))
        for name, (start, stop) in market.windows.items()
    }
    if market.universe is not None:
        masks = {name: getattr(market.universe, name)[kept] for name in ("listed", "member", "quoted")}
        arrays["universe"] = replace(market.universe, **masks)
    return replace(market, windows=windows, **arrays)

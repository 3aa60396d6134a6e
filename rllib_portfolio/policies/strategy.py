"""The interface of strategies, and the data that they may use when they decide.

A back-test treats trained policies, classical baselines and a user's own rules alike: each has a name and a `decide`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.env.action_map import equal_weights, equal_weights_over
from rllib_portfolio.env.observation import ObservationLayout
from rllib_portfolio.market import MarketData
from rllib_portfolio.market.universe import BoolArray


class Strategy(Protocol):
    """The interface of a strategy, which chooses target weights."""

    @property
    def name(self) -> str:
        """Row label in tables and figures, unique within one back-test."""
        ...

    def decide(self, view: MarketView, /) -> FloatArray | None:
        """Return target weights [N+1] on the simplex, cash last; None holds the current portfolio without trading."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class MarketView:
    """The data that a strategy may use for the trade at the close of row t: rows up to t - L, for execution lag L.

    Arrays are read-only and end at row t - L; no attribute gives access to later rows.

    Attributes:
        row: Decision row t.
        is_first: Whether this is the first decision of the back-test, when all wealth is in cash.
        weights: Weights of this strategy's portfolio as known at close t - L, [N+1], cash last. For L = 0 these are the
            drifted weights w'_t. For L = 1 they are the weights held after the close of row t - 1, because w'_t would
            reveal the returns of row t.
        past_returns: Simple returns of the risky assets, float64 [t - L, N]: rows 1 to t - L, the newest last.
        past_cash_returns: Simple returns of cash over the same rows, float64 [t - L].
        volatility: Trailing standard deviation of daily returns at row t - L, float64 [N].
        tradable: Whether each asset could be bought at close t - L, bool [N]; True for all in a complete market.
    """

    row: int
    is_first: bool
    weights: FloatArray
    past_returns: FloatArray
    past_cash_returns: FloatArray
    volatility: FloatArray
    tradable: BoolArray
    _listed_days: NDArray[np.int64] | None
    _observe: Callable[[FloatArray], FloatArray]

    @property
    def equal_weights(self) -> FloatArray:
        """The 1/N portfolio over the tradable assets, [N+1], all in cash if there are none; read-only."""
        if self._listed_days is None:
            return equal_weights(len(self.tradable))
        return equal_weights_over(self.tradable)

    def has_history(self, num_days: int) -> BoolArray:
        """Return whether each asset is tradable and has the returns of the last `num_days` rows up to t - L, [N]."""
        if self._listed_days is None:
            return self.tradable
        return self.tradable & (self._listed_days > num_days)

    @property
    def observation(self) -> FloatArray:
        """The observation that the environment would return, float32 [D]: features of row t - L, then the weights."""
        return self._observe(self.weights)


class MarketViewer:
    """Creates the views of one market row by row, each with the rows that are known under the execution lag."""

    def __init__(self, market: MarketData, execution_lag: int) -> None:
        self._market, self._execution_lag = market, execution_lag
        self._layout = ObservationLayout(market)
        self._every_asset = np.ones(market.num_assets, dtype=np.bool_)
        self._listed_days: NDArray[np.int64] | None = None
        if market.universe is not None:
            self._tradable, self._listed_days = market.universe.tradable, _listed_days(market.universe.listed)

    def views(self, row: int, is_first: bool, known: FloatArray) -> list[MarketView]:
        """Return the view of each of K strategies for the trade at the close of `row`.

        Args:
            row: Decision row.
            is_first: Whether this is the first decision of the back-test.
            known: Weights of each strategy's portfolio as known at close `row` - L, [K, N+1].
        """
        seen = row - self._execution_lag
        known = known.copy()
        known.setflags(write=False)

        def observe(weights: FloatArray) -> FloatArray:
            return self._layout.observe_one(seen, weights)

        past = slice(1, seen + 1)  # row 0 has no return
        returns, cash_returns = self._market.returns[past], self._market.cash_returns[past]
        volatility = self._market.volatility[seen]
        tradable, listed_days = self._every_asset, None
        if self._listed_days is not None:
            tradable, listed_days = self._tradable[seen], self._listed_days[seen]
        return [
            MarketView(row, is_first, weights, returns, cash_returns, volatility, tradable, listed_days, observe)
            for weights in known
        ]


def _listed_days(listed: BoolArray) -> NDArray[np.int64]:
    """Return for how many rows up to each row each asset has been listed without a break, [T, N]."""
    rows = np.arange(len(listed))[:, None]
    last_gap = np.maximum.accumulate(np.where(listed, -1, rows), axis=0)
    return np.asarray(rows - last_gap)

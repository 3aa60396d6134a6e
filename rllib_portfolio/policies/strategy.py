"""What a strategy is, and all that it may see when it decides.

A trained policy, a classical baseline and a user's own rule are the same thing to a back-test: a name and a `decide`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.env.observation import ObservationLayout
from rllib_portfolio.market import MarketData


class Strategy(Protocol):
    """Anything that chooses target weights."""

    @property
    def name(self) -> str:
        """Row label of tables and figures, distinct within one back-test."""
        ...

    def decide(self, view: MarketView, /) -> FloatArray | None:
        """Target weights [N+1] on the simplex, cash last; None holds what there is and trades nothing."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class MarketView:
    """What one strategy knows when it decides the trade at the close of row t: rows up to t - L, L the execution lag.

    Arrays are read-only and end where knowledge ends; nothing here leads to a later row.

    Attributes:
        row: Decision row t.
        is_first: Whether this is the first decision of the walk, out of cash.
        weights: Of this strategy's portfolio as known at close t - L, [N+1], cash last: the drifted w'_t for L = 0; for
            L = 1 those held after the close of row t - 1, since w'_t would tell the returns of row t.
        past_returns: Simple returns of the risky assets, float64 [t - L, N]: rows 1 to t - L, the newest last.
        past_cash_returns: Simple returns of cash over the same rows, float64 [t - L].
        volatility: Trailing standard deviation of daily returns at row t - L, float64 [N].
    """

    row: int
    is_first: bool
    weights: FloatArray
    past_returns: FloatArray
    past_cash_returns: FloatArray
    volatility: FloatArray
    _observe: Callable[[FloatArray], FloatArray]

    @property
    def observation(self) -> FloatArray:
        """What the environment's agent would see, float32 [D]: features of row t - L, then the weights."""
        return self._observe(self.weights)


class MarketViewer:
    """Hands out the views of one market, row by row; decisions see rows up to the execution lag before them."""

    def __init__(self, market: MarketData, execution_lag: int) -> None:
        self._market, self._execution_lag = market, execution_lag
        self._layout = ObservationLayout(market)

    def views(self, row: int, is_first: bool, known: FloatArray) -> list[MarketView]:
        """The view of each strategy for the trade at the close of `row`, given the weights [K, N+1] that it knows."""
        seen = row - self._execution_lag
        known = known.copy()
        known.setflags(write=False)

        def observe(weights: FloatArray) -> FloatArray:
            return self._layout.observe_one(seen, weights)

        past = slice(1, seen + 1)  # row 0 has no return
        returns, cash_returns = self._market.returns[past], self._market.cash_returns[past]
        volatility = self._market.volatility[seen]
        return [MarketView(row, is_first, weights, returns, cash_returns, volatility, observe) for weights in known]

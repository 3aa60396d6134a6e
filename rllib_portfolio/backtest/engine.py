"""The back-test of strategies on the same days, at the same costs and limits, with the environments' transition.

The results of `PortfolioEnv` and of `backtest` agree to the last bit. Every strategy starts with wealth 1, all in cash,
and pays transaction costs from the first trade on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.config.user_values import require_names
from rllib_portfolio.env import kernel, transition
from rllib_portfolio.env.transition import StepOutcome
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import CASH, MarketData, Window
from rllib_portfolio.market.universe import BoolArray
from rllib_portfolio.policies.strategy import MarketView, MarketViewer, Strategy

SIMPLEX_TOLERANCE = 1e-6
ROUNDING = 1e-12


class Role(Enum):
    """Role of a strategy in a line-up, independent of its display name."""

    SUBJECT = "subject"
    """The strategy that is judged, such as a policy."""
    BENCHMARK = "benchmark"
    """The strategy that subjects are judged against: 1/N on the same assets."""
    REFERENCE = "reference"
    """A baseline that is always shown beside a subject: buy-and-hold."""
    BASELINE = "baseline"
    INDEX = "index"
    """A single fund whose holdings are not known."""
    CONSTANT_MIX = "constant mix"
    """The average weights of a subject, which nobody could have held, since they are known only after the walk."""


@dataclass(frozen=True, slots=True, eq=False)
class BacktestResult:
    """Result of one strategy on the T days of a window; returns and wealth are after costs.

    Attributes:
        name: Name of the strategy.
        assets: Names of the N risky assets.
        dates: Days or moments whose returns were earned, datetime64 [T]; each trade is at the close before.
        returns: Net simple returns, [T].
        wealth: Wealth path that starts at 1, [T+1].
        weights: Weights held over each day, after trading, [T, N+1], cash last.
        turnover: Half the L1 distance between all N+1 weights before and after each trade, [T].
        traded: Traded notional of the risky assets as a fraction of wealth, [T].
        cost: Transaction cost as a fraction of wealth, [T].
        role: `role` of the strategy, or baseline if it has none.
        members: Whether each asset was a member at the close before each day, bool [T, N]; None if all always were.
    """

    name: str
    assets: tuple[str, ...]
    dates: NDArray[np.datetime64]
    returns: FloatArray
    wealth: FloatArray
    weights: FloatArray
    turnover: FloatArray
    traded: FloatArray
    cost: FloatArray
    role: Role = Role.BASELINE
    members: BoolArray | None = None

    def to_frame(self) -> pd.DataFrame:
        """Return one row per day: return, wealth at the close, turnover, traded, cost and `weight.<asset>` columns."""
        columns: dict[str, Any] = {
            "return": self.returns,
            "wealth": self.wealth[1:],
            "turnover": self.turnover,
            "traded": self.traded,
            "cost": self.cost,
        }
        names = [f"weight.{asset}" for asset in (*self.assets, CASH)]
        columns |= dict(zip(names, self.weights.T, strict=True))
        return pd.DataFrame(columns, index=pd.DatetimeIndex(self.dates, name="date"))


def backtest(
    market: MarketData,
    window: Window,
    strategies: Sequence[Strategy],
    execution: ExecutionConfig,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[BacktestResult, ...]:
    """Back-test `strategies` on the same days of `window`.

    Args:
        market: Market data.
        window: Half-open range of rows whose returns are earned; the first decision is at the close before it.
        strategies: K strategies with distinct names; `execution` limits the weights that they ask for.
        execution: Costs, limits, lag and days between decisions.
        progress: Called after each day with the number of days done and in total.

    Returns:
        One result per strategy, in the order of `strategies`.

    Raises:
        ConfigError: If the window or the costs do not fit the market, names repeat, a strategy fails or returns weights
            that are not a portfolio, or market impact leaves no wealth.
    """
    strategies = tuple(strategies)
    first_row, last_row = transition.decision_rows(market, window, execution.execution_lag)
    _require_distinct_names(strategies)
    viewer = MarketViewer(market, execution.execution_lag)
    terms = transition.Terms.of(market, execution)
    state = transition.initial_state(np.full(len(strategies), first_row), last_row, market.num_assets)
    log = _TradeLog.empty(last_row - first_row, len(strategies), market.num_assets)
    for day, row in enumerate(range(first_row, last_row)):
        weights = state.weights
        if day % execution.rebalance_days == 0:
            known = kernel.known_weights(state.weights, state.held, execution.execution_lag)
            views = viewer.views(row, day == 0, known)
            target = _targets(strategies, views, state.weights, market)
            weights = terms.allowed_weights(target, state)
        state, outcome = transition.one_day(state, weights, terms)
        _require_wealth(outcome, strategies, market.dates[row])
        log.record(day, outcome)
        if progress is not None:
            progress(day + 1, last_row - first_row)
    return log.results(strategies, market, slice(first_row + 1, last_row + 1))


@dataclass(frozen=True, slots=True, eq=False)
class _TradeLog:
    """Outcomes of the days so far; time is the first axis, so that each day is one contiguous row."""

    weights: FloatArray
    growth: FloatArray
    turnover: FloatArray
    traded: FloatArray
    cost: FloatArray
    wealth: FloatArray

    @classmethod
    def empty(cls, num_days: int, num_strategies: int, num_assets: int) -> _TradeLog:
        growth, turnover, traded, cost = np.empty((4, num_days, num_strategies))
        weights, wealth = np.empty((num_days, num_strategies, num_assets + 1)), np.ones((num_days + 1, num_strategies))
        return cls(weights, growth, turnover, traded, cost, wealth)

    def record(self, day: int, outcome: StepOutcome) -> None:
        self.weights[day], self.growth[day], self.turnover[day] = outcome.weights, outcome.growth, outcome.turnover
        self.traded[day], self.cost[day], self.wealth[day + 1] = outcome.traded, outcome.cost, outcome.wealth

    def results(self, strategies: Sequence[Strategy], market: MarketData, rows: slice) -> tuple[BacktestResult, ...]:
        decided = slice(rows.start - 1, rows.stop - 1)
        members = None if market.universe is None else market.universe.member[decided]
        return tuple(
            BacktestResult(
                name=strategy.name,
                assets=market.assets,
                dates=market.dates[rows],
                returns=self.growth[:, k] - 1.0,
                wealth=self.wealth[:, k].copy(),
                weights=self.weights[:, k].copy(),
                turnover=self.turnover[:, k].copy(),
                traded=self.traded[:, k].copy(),
                cost=self.cost[:, k].copy(),
                role=getattr(strategy, "role", Role.BASELINE),
                members=members,
            )
            for k, strategy in enumerate(strategies)
        )


def _targets(
    strategies: Sequence[Strategy], views: Sequence[MarketView], drifted: FloatArray, market: MarketData
) -> FloatArray:
    """Return the target weights of each strategy, [K, N+1]; a strategy that returns None keeps its drifted weights."""
    target = np.empty((len(strategies), market.num_assets + 1))
    for k, (strategy, view) in enumerate(zip(strategies, views, strict=True)):
        try:
            weights = strategy.decide(view)
        except Exception as error:
            raise ConfigError(
                f"decide must return weights, got {type(error).__name__}: {error} ({_where(strategy, view, market)}). "
                "Correct the strategy."
            ) from error
        if weights is None:
            target[k] = drifted[k]
            continue
        weights = np.asarray(weights)
        if not _is_portfolio(weights, market):
            raise _no_portfolio(weights, market, _where(strategy, view, market))
        target[k] = _exact(weights)
    return target


def _exact(weights: FloatArray) -> FloatArray:
    """Rescale weights within the tolerance to at least 0 and a sum of 1, since an excess would earn returns, too."""
    weights = weights.astype(np.float64)
    if weights.min() < 0.0 or abs(weights.sum() - 1.0) > ROUNDING:
        weights = np.maximum(weights, 0.0)
        weights /= weights.sum()
    return weights


def _where(strategy: Strategy, view: MarketView, market: MarketData) -> str:
    return f"strategy {strategy.name}, {market.dates[view.row]}"


def _is_portfolio(weights: FloatArray, market: MarketData) -> bool:
    """Return whether weights have shape [N+1] and, within the tolerance, are at least 0 and sum to 1; False for NaN."""
    if weights.shape != (market.num_assets + 1,) or not weights.min() >= -SIMPLEX_TOLERANCE:
        return False
    return bool(abs(weights.sum(dtype=np.float64) - 1.0) <= SIMPLEX_TOLERANCE)


def _no_portfolio(weights: FloatArray, market: MarketData, where: str) -> ConfigError:
    """Return the error that says why weights are not a portfolio."""
    if weights.shape != (market.num_assets + 1,):
        return ConfigError(
            f"weights must have shape ({market.num_assets + 1},), one for each asset and cash last, got shape "
            f"{weights.shape} ({where}). Correct the strategy."
        )
    if not np.isfinite(weights).all():
        return ConfigError(f"weights must be finite, got {weights} ({where}). Look for a NaN in the strategy.")
    return ConfigError(
        f"weights must be at least 0 and sum to 1 within {SIMPLEX_TOLERANCE:g}, got a sum of "
        f"{weights.sum(dtype=np.float64):.9g} and a smallest weight of {weights.min():.3g} ({where}). Put what is left "
        "over into cash."
    )


def _require_wealth(outcome: StepOutcome, strategies: Sequence[Strategy], date: np.datetime64) -> None:
    if not (outcome.growth > 0.0).all():
        k = int(np.argmin(outcome.growth > 0.0))
        raise ConfigError(
            f"impact must leave wealth positive, got a trading cost of {outcome.cost[k]:.3g} "
            f"(strategy {strategies[k].name}, {date}). Lower impact or max_turnover."
        )


def _require_distinct_names(strategies: Sequence[Strategy]) -> None:
    names = [strategy.name for strategy in strategies]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or not names:
        raise ConfigError(
            f"strategies must be at least one, with distinct names, got {', '.join(names) or 'none'} "
            "(back-test). Name each of them once."
        )
    require_names(names, "strategies", "back-test")

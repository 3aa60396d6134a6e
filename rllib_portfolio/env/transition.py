"""The walk of B portfolios over a market, as pure functions of frozen values.

`one_day` trades at the close of row t and earns the returns of row t + 1. `step` is one decision: it limits the target
weights, trades once, and holds until the next decision. What enters is the state at a close, the weights, and the terms
of the walk; what leaves is the next state and what was held and earned. Arrays are never written into: each state has
its own, or shares those that did not change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.env import kernel
from rllib_portfolio.env.limits import constrained_weights
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData, Window

NO_MEMORY = np.zeros(0)
Values = TypeVar("Values", "State", "StepOutcome")


class State(NamedTuple):
    """Where B portfolios stand at a close."""

    wealth: FloatArray
    """V_t, [B]."""
    weights: FloatArray
    """Drifted weights w'_t, [B, N+1], cash last."""
    held: FloatArray
    """Weights after the trade of the close before, w_{t-1}, [B, N+1]; all cash before the first."""
    reward_state: FloatArray
    """What the reward remembers of the episode, [B, S]; the environment keeps it."""
    row: NDArray[np.int64]
    """Row t of the market, [B]."""
    end: NDArray[np.int64]
    """Last row of the episode, whose returns are its last ones, [B]."""
    steps: NDArray[np.int64]
    """Decisions of the episode so far, [B]."""

    @property
    def is_over(self) -> NDArray[np.bool_]:
        """Whether each episode has come to its end, [B]."""
        return np.asarray(self.row >= self.end)


class StepOutcome(NamedTuple):
    """What B portfolios held from one decision to the next (one or more days), and what they earned."""

    weights: FloatArray
    """w_t after the trade, [B, N+1], cash last."""
    traded: FloatArray
    """Traded notional of the risky assets, [B]."""
    turnover: FloatArray
    """Half the L1 distance over all N+1 weights, [B]."""
    cost: FloatArray
    """c_t, fraction of wealth paid, [B]."""
    wealth: FloatArray
    """V_end, [B]; an episode starts at 1."""
    growth: FloatArray
    """V_end / V_start, after costs, [B]."""
    benchmark_growth: FloatArray
    """Growth of the uniform portfolio over all N+1 assets, rebalanced daily, free of cost, [B]."""
    asset_growth: FloatArray
    """Growth of each asset, cash last, [B, N+1]."""

    @property
    def log_return(self) -> FloatArray:
        """log(V_end / V_start), after costs, [B]."""
        return np.asarray(np.log(self.growth))

    @property
    def benchmark_log_return(self) -> FloatArray:
        """Log growth of the uniform portfolio over all N+1 assets, rebalanced daily, free of cost, [B]."""
        return np.asarray(np.log(self.benchmark_growth))

    @property
    def equal_weight_log_return(self) -> FloatArray:
        """Log growth of 1/N: equal weights of the N risky assets at the start, held, free of cost, [B]."""
        return np.asarray(np.log(self.asset_growth[:, :-1].mean(-1)))

    @property
    def cash_log_return(self) -> FloatArray:
        """Log growth of cash, [B]."""
        return np.asarray(np.log(self.asset_growth[:, -1]))


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """What stays the same over a walk.

    Attributes:
        market: The market that is walked.
        execution: Limits, execution lag, and days between decisions.
        returns: Simple returns of the assets, cash last, [T, N+1].
        benchmark_growth: Growth of the uniform portfolio over all N+1 assets on each day, [T].
        costs: What trading costs.
    """

    market: MarketData
    execution: ExecutionConfig
    returns: FloatArray
    benchmark_growth: FloatArray
    costs: kernel.CostModel

    @classmethod
    def of(cls, market: MarketData, execution: ExecutionConfig) -> Terms:
        """Return the terms of a market under an execution.

        Raises:
            ConfigError: If the costs do not match the assets.
        """
        costs = kernel.CostModel.from_bps(execution.cost_bps, market.num_assets, execution.impact)
        returns = np.ascontiguousarray(np.column_stack([market.returns, market.cash_returns]))
        return cls(market, execution, returns, (1.0 + returns).mean(-1), costs)


def initial_state(row: NDArray[np.int64], end: ArrayLike, num_assets: int, memory: FloatArray = NO_MEMORY) -> State:
    """Return B portfolios of wealth 1, all in cash, at rows [B], whose episodes end at rows `end`.

    Args:
        row: First decision row of each.
        end: Last row of each, or of all.
        num_assets: N.
        memory: What the reward remembers of a fresh episode, [S].
    """
    wealth, cash = kernel.initial_state(len(row), num_assets)
    steps = np.zeros(len(row), dtype=np.int64)
    return State(wealth, cash, cash, np.tile(memory, (len(row), 1)), row, np.broadcast_to(end, row.shape), steps)


def nothing_done(num_portfolios: int, num_assets: int) -> StepOutcome:
    """Return the outcome of portfolios that have neither traded nor earned: wealth 1, all in cash."""
    wealth, cash = kernel.initial_state(num_portfolios, num_assets)
    zeros, ones = np.zeros((3, num_portfolios)), np.ones((2, num_portfolios))
    return StepOutcome(cash, zeros[0], zeros[1], zeros[2], wealth, ones[0], ones[1], np.ones_like(cash))


def with_rows(values: Values, others: Values, which: NDArray[Any]) -> Values:
    """Return `values` with the rows `which`, indices or a mask, taken from `others`, which has these rows alone."""
    copies = [array.copy() for array in values]
    for copy, other in zip(copies, others, strict=True):
        copy[which] = other
    return type(values)._make(copies)


def step(state: State, target: FloatArray, terms: Terms) -> tuple[State, StepOutcome]:
    """Trade once to the target weights, as far as the limits allow, and hold until the next decision.

    Args:
        state: Where B portfolios stand; one past its end stands still.
        target: Target weights, [B, N+1], rows on the simplex.
        terms: Of the walk.

    Returns:
        The state at the close of the next decision, or of the end, and what was held and earned on the way.
        Growth is not positive where trading cost all wealth.
    """
    state, outcome = one_day(state, constrained_weights(target, state.weights, terms.execution), terms)
    for _ in range(terms.execution.rebalance_days - 1):
        if state.is_over.all():
            break
        state, day = one_day(state, state.weights, terms)
        outcome = outcome._replace(
            wealth=day.wealth,
            growth=outcome.growth * day.growth,
            benchmark_growth=outcome.benchmark_growth * day.benchmark_growth,
            asset_growth=outcome.asset_growth * day.asset_growth,
        )
    return state._replace(steps=state.steps + 1), outcome


def one_day(state: State, weights: FloatArray, terms: Terms) -> tuple[State, StepOutcome]:
    """Trade to `weights`, [B, N+1], at the close of row t, and earn the returns of row t + 1."""
    is_walking = state.row < state.end
    are_all_walking = is_walking.all()
    row = state.row + is_walking
    returns_t1, benchmark_growth = terms.returns[row], terms.benchmark_growth[row]
    if not are_all_walking:
        returns_t1 = returns_t1 * is_walking[:, None]
    before = kernel.PortfolioState(state.wealth, state.weights)
    volatility_t = terms.market.volatility[state.row]
    (wealth, drifted), day = kernel.step(before, weights, returns_t1, volatility_t, terms.costs)
    held, growth = weights, day.growth
    if not are_all_walking:  # a portfolio past its end stands still, to the bit
        wealth, growth = np.where(is_walking, wealth, state.wealth), np.where(is_walking, growth, 1.0)
        benchmark_growth = np.where(is_walking, benchmark_growth, 1.0)
        drifted = np.where(is_walking[:, None], drifted, state.weights)
        held = np.where(is_walking[:, None], weights, state.held)
    following = State(wealth, drifted, held, state.reward_state, row, state.end, state.steps)
    return following, StepOutcome(
        weights, day.traded, day.turnover, day.cost, wealth, growth, benchmark_growth, 1.0 + returns_t1
    )


def decision_rows(market: MarketData, window: Window, execution_lag: int) -> tuple[int, int]:
    """Return the first decision row and the last row of a window, the half-open range of rows whose returns are earned.

    Raises:
        ConfigError: If the window reaches outside the rows at which features exist, or holds no day.
    """
    start, stop = window
    first_possible = market.first_row + execution_lag
    if start - 1 < first_possible or stop > market.num_days or stop <= start:
        raise ConfigError(
            f"window must lie between {market.dates[min(first_possible + 1, market.num_days - 1)]} and "
            f"{market.dates[-1]}, got rows {start} to {stop} of {market.num_days}. Features need {first_possible + 1} "
            "days before the first return; move the window or shorten the feature windows."
        )
    return start - 1, stop - 1

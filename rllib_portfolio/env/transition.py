"""Transitions of B portfolios from one close of a market to a later one, as pure functions.

`one_day` trades at the close of row t and earns the returns of row t + 1. `step` is one decision: it limits the target
weights, trades once, and holds until the next decision. Both take the state at a close, the weights, and the terms of
the simulation, and return the next state and the outcome. They never modify an array in place, so that states may share
arrays that did not change.
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
    """The state of B portfolios at a close."""

    wealth: FloatArray
    """Wealth V_t, [B]."""
    weights: FloatArray
    """Drifted weights w'_t, [B, N+1], cash last."""
    held: FloatArray
    """Weights w_{t-1} after the trade at the previous close, [B, N+1]; all cash before the first trade."""
    reward_state: FloatArray
    """State of the reward, [B, S], which the environment maintains."""
    row: NDArray[np.int64]
    """Row t of the market, [B]."""
    end: NDArray[np.int64]
    """Last row of the episode, whose returns are the last ones earned, [B]."""
    steps: NDArray[np.int64]
    """Number of decisions in the episode so far, [B]."""

    @property
    def is_over(self) -> NDArray[np.bool_]:
        """True for each episode that has ended, [B]."""
        return np.asarray(self.row >= self.end)


class StepOutcome(NamedTuple):
    """The weights and returns of B portfolios from one decision to the next (one or more days)."""

    weights: FloatArray
    """Weights w_t after the trade, [B, N+1], cash last."""
    traded: FloatArray
    """Traded notional of the risky assets, as a fraction of wealth, [B]."""
    turnover: FloatArray
    """Half the L1 distance over all N+1 weights, [B]."""
    cost: FloatArray
    """Transaction cost c_t, as a fraction of wealth, [B]."""
    wealth: FloatArray
    """Wealth V_end at the end of the step, [B]; an episode starts at 1."""
    growth: FloatArray
    """Growth factor V_end / V_start after costs, [B]."""
    benchmark_growth: FloatArray
    """Growth factor of the uniform portfolio over all N+1 assets, rebalanced daily without transaction costs, [B]."""
    asset_growth: FloatArray
    """Growth factor of each asset, cash last, [B, N+1]."""

    @property
    def log_return(self) -> FloatArray:
        """Log return log(V_end / V_start) after costs, [B]."""
        return np.asarray(np.log(self.growth))

    @property
    def benchmark_log_return(self) -> FloatArray:
        """Log growth of the uniform portfolio over all N+1 assets, rebalanced daily without transaction costs, [B]."""
        return np.asarray(np.log(self.benchmark_growth))

    @property
    def equal_weight_log_return(self) -> FloatArray:
        """Log growth of 1/N, [B]: equal weights of the N risky assets at the start, held without transaction costs."""
        return np.asarray(np.log(self.asset_growth[:, :-1].mean(-1)))

    @property
    def cash_log_return(self) -> FloatArray:
        """Log growth of cash, [B]."""
        return np.asarray(np.log(self.asset_growth[:, -1]))


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """The constant inputs of a simulation.

    Attributes:
        market: The market.
        execution: Limits, execution lag, and days between decisions.
        returns: Simple returns of the assets, cash last, [T, N+1].
        benchmark_growth: Growth factor of the uniform portfolio over all N+1 assets on each day, [T].
        costs: Transaction costs.
    """

    market: MarketData
    execution: ExecutionConfig
    returns: FloatArray
    benchmark_growth: FloatArray
    costs: kernel.CostModel

    @classmethod
    def of(cls, market: MarketData, execution: ExecutionConfig) -> Terms:
        """Return the terms of a simulation.

        Args:
            market: The market.
            execution: Costs, limits, execution lag, and days between decisions.

        Raises:
            ConfigError: If there are several costs, but not one for each asset.
        """
        costs = kernel.CostModel.from_bps(execution.cost_bps, market.num_assets, execution.impact)
        returns = np.ascontiguousarray(np.column_stack([market.returns, market.cash_returns]))
        return cls(market, execution, returns, (1.0 + returns).mean(-1), costs)


def initial_state(row: NDArray[np.int64], end: ArrayLike, num_assets: int, memory: FloatArray = NO_MEMORY) -> State:
    """Return the state of B portfolios at the start of their episodes, with wealth 1, all in cash.

    Args:
        row: First decision row of each portfolio, [B].
        end: Last row of the episode: one for each portfolio, [B], or one for all.
        num_assets: Number N of risky assets.
        memory: State of the reward at the start of an episode, [S].
    """
    wealth, cash = kernel.initial_state(len(row), num_assets)
    steps = np.zeros(len(row), dtype=np.int64)
    return State(wealth, cash, cash, np.tile(memory, (len(row), 1)), row, np.broadcast_to(end, row.shape), steps)


def nothing_done(num_portfolios: int, num_assets: int) -> StepOutcome:
    """Return the outcome of portfolios that have neither traded nor earned: wealth 1, all in cash.

    Args:
        num_portfolios: Number B of portfolios.
        num_assets: Number N of risky assets.
    """
    wealth, cash = kernel.initial_state(num_portfolios, num_assets)
    zeros, ones = np.zeros((3, num_portfolios)), np.ones((2, num_portfolios))
    return StepOutcome(cash, zeros[0], zeros[1], zeros[2], wealth, ones[0], ones[1], np.ones_like(cash))


def with_rows(values: Values, others: Values, which: NDArray[Any]) -> Values:
    """Return a copy of `values` in which some portfolios are replaced.

    Args:
        values: Arrays for B portfolios.
        others: Arrays for the replaced portfolios alone, in the order of `which`.
        which: Indices of the replaced portfolios, or a mask, [B].
    """
    copies = [array.copy() for array in values]
    for copy, other in zip(copies, others, strict=True):
        copy[which] = other
    return type(values)._make(copies)


def step(state: State, target: FloatArray, terms: Terms) -> tuple[State, StepOutcome]:
    """Trade once to the target weights, as far as the limits allow, and hold until the next decision.

    Args:
        state: State of B portfolios; a portfolio past its end does not change.
        target: Target weights, [B, N+1], rows on the simplex.
        terms: Constant inputs of the simulation.

    Returns:
        The state at the next decision or at the end of the episode, and the outcome. The growth factor is not positive
        where trading costs all wealth.
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
    """Trade to `weights` at the close of row t, and earn the returns of row t + 1.

    Args:
        state: State of B portfolios at the close of row t; a portfolio past its end does not change.
        weights: Weights after the trade, [B, N+1], rows on the simplex, within the limits.
        terms: Constant inputs of the simulation.

    Returns:
        The state at the close of row t + 1, and the outcome of the day.
    """
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
    if not are_all_walking:  # the values of a portfolio past its end stay exactly the same
        wealth, growth = np.where(is_walking, wealth, state.wealth), np.where(is_walking, growth, 1.0)
        benchmark_growth = np.where(is_walking, benchmark_growth, 1.0)
        drifted = np.where(is_walking[:, None], drifted, state.weights)
        held = np.where(is_walking[:, None], weights, state.held)
    following = State(wealth, drifted, held, state.reward_state, row, state.end, state.steps)
    return following, StepOutcome(
        weights, day.traded, day.turnover, day.cost, wealth, growth, benchmark_growth, 1.0 + returns_t1
    )


def decision_rows(market: MarketData, window: Window, execution_lag: int) -> tuple[int, int]:
    """Return the first decision row and the last row of a window.

    Args:
        market: The market.
        window: Half-open range of rows whose returns are earned.
        execution_lag: Execution lag L, 0 or 1.

    Raises:
        ConfigError: If the window is empty, ends after the last row, or starts before the features are defined.
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

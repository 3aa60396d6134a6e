"""Transitions of B portfolios from one close of a market to a later one, as pure functions.

`one_day` trades at the close of row t and earns the returns of row t + 1. `step` is one decision: it limits the target
weights, trades once, and holds until the next decision. Both take the state at a close, the weights, and the terms of
the simulation, and return the next state and the outcome. They never modify an array in place, so that states may share
arrays that did not change.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rllib_portfolio.arrays import FloatArray, namespace, take_rows
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.env import kernel
from rllib_portfolio.env.limits import UNRESTRICTED, TradingDay, constrained_weights
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData, Window
from rllib_portfolio.market.universe import BoolArray

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
    move: FloatArray
    """Traded fraction |w_t - w'_t| of wealth in each asset, cash last, [B, N+1]."""
    cost: FloatArray
    """Transaction cost c_t, as a fraction of wealth, [B]."""
    wealth: FloatArray
    """Wealth V_end at the end of the step, [B]; an episode starts at 1."""
    growth: FloatArray
    """Growth factor V_end / V_start after costs, [B]."""
    benchmark_growth: FloatArray
    """Growth factor of the uniform portfolio over all N+1 assets, rebalanced daily without transaction costs, [B]."""
    asset_growth: FloatArray
    """Growth factor of each asset, cash last, [B, N+1]; an asset that has left earns what cash earns."""
    members: BoolArray
    """Whether each risky asset was a member of the universe at the decision, [B, N]."""

    @property
    def traded(self) -> FloatArray:
        """Traded notional of the risky assets, as a fraction of wealth, [B]."""
        return self.move[:, :-1].sum(-1)  # type: ignore[no-any-return]

    @property
    def turnover(self) -> FloatArray:
        """Half the L1 distance over all N+1 weights, [B]."""
        return 0.5 * self.move.sum(-1)  # type: ignore[no-any-return]

    @property
    def log_return(self) -> FloatArray:
        """Log return log(V_end / V_start) after costs, [B]."""
        return namespace(self.growth).log(self.growth)  # type: ignore[no-any-return]

    @property
    def benchmark_log_return(self) -> FloatArray:
        """Log growth of the uniform portfolio over all N+1 assets, rebalanced daily without transaction costs, [B]."""
        return namespace(self.growth).log(self.benchmark_growth)  # type: ignore[no-any-return]

    @property
    def equal_weight_log_return(self) -> FloatArray:
        """Log growth of 1/N, [B]: equal weights of the members at the start, held without transaction costs."""
        xp, risky = namespace(self.growth), self.asset_growth[:, :-1]
        if self.members.all():
            return xp.log(risky.sum(-1) / risky.shape[-1])  # type: ignore[no-any-return]
        count = self.members.sum(-1)
        growth = xp.where(self.members, risky, 0.0).sum(-1) / count.clip(min=1)
        return xp.log(xp.where(count > 0, growth, self.asset_growth[:, -1]))  # type: ignore[no-any-return]

    @property
    def cash_log_return(self) -> FloatArray:
        """Log growth of cash, [B]."""
        return namespace(self.growth).log(self.asset_growth[:, -1])  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """The constant inputs of a simulation.

    Attributes:
        execution: Limits, execution lag, and days between decisions.
        returns: Simple returns of the assets, cash last, [T, N+1]; an asset that has left earns what cash earns.
        benchmark_growth: Growth factor of the uniform portfolio over cash and the day's members on each day, [T].
        volatility: Trailing daily volatility of the risky assets, [T, N].
        costs: Transaction costs.
        members: Whether each asset is a member at each close, [T, N]; None if each always is.
        listed: Whether each asset is listed on each day, [T, N]; None if each always is.
        exit_rates: Cost of the sale at the end of each asset's life, as a fraction of the notional, [N].
        impact: Coefficient k of the impact term for each day and asset, [T, N], where volumes determine it.
        day: What can be traded at each close: arrays with the leading axis T in place of B; None without restrictions.
    """

    execution: ExecutionConfig
    returns: FloatArray
    benchmark_growth: FloatArray
    volatility: FloatArray
    costs: kernel.CostModel
    members: BoolArray | None
    listed: BoolArray | None
    exit_rates: FloatArray
    impact: FloatArray | None
    day: TradingDay | None

    @classmethod
    def of(cls, market: MarketData, execution: ExecutionConfig) -> Terms:
        """Return the terms of a simulation.

        Args:
            market: The market.
            execution: Costs, limits, execution lag, and days between decisions.

        Raises:
            ConfigError: If there are several costs, but not one for each asset, or a setting needs groups or volumes
                that the market does not have.
        """
        costs = _costs(market, execution)
        returns = np.ascontiguousarray(np.column_stack([market.returns, market.cash_returns]))
        members = listed = None
        benchmark_growth = (1.0 + returns).mean(-1)
        exit_rates = (
            costs.rates
            if execution.exit_cost_bps is None
            else np.full(market.num_assets, 1e-4 * execution.exit_cost_bps)
        )
        if market.universe is not None:
            members, listed = market.universe.member, market.universe.listed
            exit_rates = exit_rates * market.universe.is_sold
            has_left = np.arange(market.num_days)[:, None] > market.universe.exit_rows
            returns[:, :-1] = np.where(has_left, returns[:, -1:], returns[:, :-1])
            benchmark_growth = _uniform_growth(returns, members)
        volatility = np.ascontiguousarray(market.volatility)
        day, impact = _trading_days(market, execution)
        return cls(execution, returns, benchmark_growth, volatility, costs, members, listed, exit_rates, impact, day)

    def allowed_weights(self, target: FloatArray, state: State) -> FloatArray:
        """Return the target weights as far as the limits and the universe of the day allow them, [B, N+1].

        Args:
            target: Target weights, [B, N+1], rows on the simplex.
            state: State of B portfolios at the close of the trade.
        """
        if self.day is None:
            return constrained_weights(target, state.weights, self.execution)
        return constrained_weights(target, state.weights, self.execution, self.trading_day(state.row))

    def trading_day(self, rows: NDArray[np.int64]) -> TradingDay:
        """Return what can be traded at the closes of `rows`, [B]."""
        day = self.day
        if day is None:
            return UNRESTRICTED
        return TradingDay(
            tradable=None if day.tradable is None else day.tradable[rows],
            halted=None if day.halted is None else day.halted[rows],
            groups=day.groups,
            largest_trade=None if day.largest_trade is None else day.largest_trade[rows],
        )


def _costs(market: MarketData, execution: ExecutionConfig) -> kernel.CostModel:
    """Return the transaction costs; those of single assets in the market come before those of the settings."""
    costs = kernel.CostModel.from_bps(execution.cost_bps, market.num_assets, execution.impact)
    if market.cost_bps is None:
        return costs
    rates = np.where(np.isnan(market.cost_bps), costs.rates, 1e-4 * market.cost_bps)
    return kernel.CostModel(rates, costs.impact)


def _uniform_growth(returns: FloatArray, members: BoolArray) -> FloatArray:
    """Return the growth factor, [T], of equal weights over cash and the members of the close before."""
    held = np.concatenate([members, np.ones((len(members), 1), dtype=np.bool_)], axis=1)
    held = np.concatenate([held[:1], held[:-1]])
    return np.asarray(np.where(held, 1.0 + returns, 0.0).sum(-1) / held.sum(-1))


def _trading_days(market: MarketData, execution: ExecutionConfig) -> tuple[TradingDay | None, FloatArray | None]:
    """Return what can be traded at each close, and the coefficients of the impact term where volumes determine them."""
    groups = largest_trade = impact = None
    if execution.max_group_weight < 1.0:
        if market.groups is None:
            raise ConfigError(
                f"max_group_weight must be 1 without groups, got {execution.max_group_weight:g} ({market.source}). Put "
                "an assets.csv with the columns asset and group beside the table."
            )
        names = sorted({name for name in market.groups if name})
        groups = np.array([[name == group for name in names] for group in market.groups], dtype=np.float64)
    if execution.fund_size is not None:
        if market.dollar_volume is None:
            raise ConfigError(
                f"fund_size must be null without volumes, got {execution.fund_size:g} ({market.source}). Give a table "
                "with a volume column."
            )
        share = market.dollar_volume / execution.fund_size
        largest_trade = execution.max_participation * share
        impact = np.where(share > 0.0, execution.impact / np.sqrt(np.where(share > 0.0, share, 1.0)), 0.0)
    if market.universe is not None:
        return TradingDay(market.universe.tradable, market.universe.halted, groups, largest_trade), impact
    if groups is None and largest_trade is None:
        return None, impact
    return TradingDay(None, None, groups, largest_trade), impact


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
    zeros, ones = np.zeros(num_portfolios), np.ones((2, num_portfolios))
    members = np.ones((num_portfolios, num_assets), dtype=np.bool_)
    return StepOutcome(cash, np.zeros_like(cash), zeros, wealth, ones[0], ones[1], np.ones_like(cash), members)


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
    state, outcome = one_day(state, terms.allowed_weights(target, state), terms)
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
    xp = namespace(weights)
    is_walking = state.row < state.end
    are_all_walking = bool(is_walking.all())
    row = state.row + (1 if are_all_walking else is_walking)
    returns_t1, benchmark_growth = take_rows(terms.returns, row), terms.benchmark_growth[row]
    if not are_all_walking:
        returns_t1 = returns_t1 * is_walking[:, None]
    before = kernel.PortfolioState(state.wealth, state.weights)
    costs = terms.costs if terms.impact is None else kernel.CostModel(terms.costs.rates, terms.impact[state.row])
    volatility_t = take_rows(terms.volatility, state.row) if costs.has_impact else terms.volatility[0]
    if terms.listed is None:
        (wealth, drifted), day = kernel.step(before, weights, returns_t1, volatility_t, costs)
    else:
        (wealth, drifted), day = kernel.step_with_exits(
            before, weights, returns_t1, volatility_t, costs, terms.listed[row], terms.exit_rates
        )
    held, growth = weights, day.growth
    if not are_all_walking:  # the values of a portfolio past its end stay exactly the same
        wealth, growth = xp.where(is_walking, wealth, state.wealth), xp.where(is_walking, growth, 1.0)
        benchmark_growth = xp.where(is_walking, benchmark_growth, 1.0)
        drifted = xp.where(is_walking[:, None], drifted, state.weights)
        held = xp.where(is_walking[:, None], weights, state.held)
    following = State(wealth, drifted, held, state.reward_state, row, state.end, state.steps)
    return following, StepOutcome(
        weights,
        day.move,
        day.cost,
        wealth,
        growth,
        benchmark_growth,
        1.0 + returns_t1,
        _every_asset(xp, weights.shape[0], weights.shape[1] - 1) if terms.members is None else terms.members[state.row],
    )


@cache
def _every_asset(xp: Any, num_portfolios: int, num_assets: int) -> BoolArray:
    """Return an array of True, [B, N], which nobody may modify."""
    return xp.broadcast_to(xp.asarray(True), (num_portfolios, num_assets))  # type: ignore[no-any-return]


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

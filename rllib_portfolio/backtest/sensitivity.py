"""Sensitivity of results to the cost, the execution lag, the universe and the first day.

The strategies are fixed: nothing is trained or selected again. Each table has the columns of `compare` and one row per
strategy and condition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.backtest.comparison import compare
from rllib_portfolio.backtest.engine import BacktestResult, backtest
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.env import transition
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData, Window
from rllib_portfolio.policies.strategy import MarketView, Strategy

Progress = Callable[[int, int], None]
Condition = TypeVar("Condition")

COSTS_BPS = (0.0, 5.0, 10.0, 25.0, 50.0)
IMPACT = 0.1
"""Impact coefficient k of a fund of 1 % of the daily volume; see `env/kernel.py`."""
LAGS = (0, 1)
ALL_ASSETS, SURVIVORS, DIFFERENCE = "all assets", "survivors only", "difference"
"""Rows of `survivorship_sensitivity`."""
SURVIVORSHIP = "Survivorship bias"
"""Title of its table in reports."""


def repriced(
    result: BacktestResult, market: MarketData, window: Window, cost_bps: float | tuple[float, ...], impact: float = 0.0
) -> BacktestResult:
    """Return the result at other costs, bit for bit as a new back-test would give it.

    Costs reduce wealth but do not change weights, and no strategy sees its wealth or its costs, so the weights held are
    the same. All days can therefore be one batch of the kernel.

    Args:
        result: Result of a strategy over `window`.
        market: The market of the back-test.
        window: The window of the back-test.
        cost_bps: Proportional cost in basis points, one number or one per asset.
        impact: Impact coefficient k.

    Raises:
        ConfigError: If the window is not that of the result, the costs do not fit the market, or impact leaves no
            wealth.
    """
    start, stop = window
    if not np.array_equal(result.dates, market.dates[start:stop]):
        raise ConfigError(
            f"window must be the one of the back-test, got rows {start} to {stop} beside {result.dates[0]} to "
            f"{result.dates[-1]} (strategy {result.name}). Give the walk's window."
        )
    execution = ExecutionConfig(cost_bps=cost_bps, impact=impact)
    terms = transition.Terms.of(replace(market, cost_bps=None), execution)
    in_cash = transition.initial_state(np.arange(start - 1, stop - 1), stop - 1, market.num_assets)
    after, _ = transition.one_day(in_cash, result.weights, terms)  # the drift of weights does not depend on costs
    before = np.concatenate([in_cash.weights[:1], after.weights[:-1]])
    _, outcome = transition.one_day(in_cash._replace(weights=before), result.weights, terms)
    if not (outcome.growth > 0.0).all():
        raise ConfigError(
            f"impact must leave wealth positive, got a trading cost of {outcome.cost.max():.3g} (strategy "
            f"{result.name}, {result.dates[int(outcome.cost.argmax())]}). Lower impact."
        )
    wealth = np.concatenate([[1.0], np.cumprod(outcome.growth)])
    return replace(result, returns=outcome.growth - 1.0, wealth=wealth, cost=outcome.cost)


def cost_curve(
    results: Sequence[BacktestResult],
    market: MarketData,
    window: Window,
    costs_bps: Sequence[float] = COSTS_BPS,
    impact: float | None = IMPACT,
    impact_cost_bps: float = 10.0,
) -> pd.DataFrame:
    """Compare the same results at several costs; the table is indexed by strategy, cost_bps and impact.

    Args:
        results: Results over `window`.
        market: The market of the back-test.
        window: The window of the back-test.
        costs_bps: Proportional costs without impact, one row for each.
        impact: Impact coefficient k of an additional row; None leaves this row out.
        impact_cost_bps: Proportional cost of the additional row.

    Raises:
        ConfigError: If there is no cost, or `repriced` raises it.
    """
    conditions = [(cost, 0.0) for cost in costs_bps] + ([] if impact is None else [(impact_cost_bps, impact)])
    tables = {
        (cost, k): _table([repriced(result, market, window, cost, k) for result in results], market, window)
        for cost, k in conditions
    }
    return _by_strategy(tables, ["cost_bps", "impact"], [result.name for result in results])


def cost_sensitivity(
    market: MarketData,
    window: Window,
    strategies: Sequence[Strategy],
    execution: ExecutionConfig,
    *,
    costs_bps: Sequence[float] = COSTS_BPS,
    impact: float | None = IMPACT,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Compare fixed strategies at several costs, each with execution lag 0 and 1.

    Args:
        market: Market data.
        window: Half-open range of rows whose returns are earned.
        strategies: Strategies, which decide anew for each lag.
        execution: Limits and days between decisions. Its cost (the mean if each asset has its own) is that of the row
            with impact.
        costs_bps: Proportional costs without impact, one row for each.
        impact: Impact coefficient k of the row with impact; None leaves this row out.
        progress: Called after each back-test with the number of back-tests done and in total.

    Returns:
        A table indexed by strategy, execution_lag, cost_bps and impact.

    Raises:
        ConfigError: If there is no cost, or `backtest` or `repriced` raises it.
    """
    tables = {}
    for lag in _told(LAGS, progress):
        walked = backtest(market, window, strategies, execution.model_copy(update={"execution_lag": lag}))
        tables[lag] = cost_curve(walked, market, window, costs_bps, impact, float(np.mean(execution.cost_bps)))
    return _by_strategy(tables, ["execution_lag"], [strategy.name for strategy in strategies])


@dataclass(frozen=True, eq=False)
class Restricted:
    """A strategy restricted to some assets, which get the weights of the excluded assets in proportion to their own.

    The weight of cash is unchanged, except that everything is in cash if the strategy holds none of the kept assets.

    Attributes:
        strategy: The unrestricted strategy, which sees the whole market.
        kept: Whether each asset may be held, bool [N].
    """

    strategy: Strategy
    kept: NDArray[np.bool_]

    @property
    def name(self) -> str:
        """Name of the unrestricted strategy."""
        return self.strategy.name

    def decide(self, view: MarketView) -> FloatArray | None:
        """Return the strategy's weights, restricted to the kept assets; None (hold) if the strategy holds."""
        weights = self.strategy.decide(view)
        if weights is None:
            return None
        risky = np.where(self.kept, np.asarray(weights, dtype=np.float64)[:-1], 0.0)
        held = risky.sum()
        if held <= 0.0:
            return np.append(np.zeros(len(risky)), 1.0)
        share = max(0.0, 1.0 - float(weights[-1]))
        return np.append(risky * (share / held), 1.0 - share)


def universe_sensitivity(
    market: MarketData,
    window: Window,
    strategies: Sequence[Strategy],
    execution: ExecutionConfig,
    subsets: Mapping[str, Sequence[str]],
    *,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Compare fixed strategies on subsets of the universe, with each strategy `Restricted` to the subset.

    Args:
        market: Market data.
        window: Half-open range of rows whose returns are earned.
        strategies: Strategies for the whole universe; 1/N becomes 1/N of the subset.
        execution: Costs, limits, lag and days between decisions.
        subsets: Maps labels to names of assets.
        progress: Called after each back-test with the number of back-tests done and in total.

    Returns:
        A table indexed by strategy and universe.

    Raises:
        ConfigError: If there is no subset, one is empty or names an unknown asset, or `backtest` raises it.
    """
    tables = {}
    for label in _told(list(subsets), progress):
        kept = _kept(market, label, subsets[label])
        restricted = [Restricted(strategy, kept) for strategy in strategies]
        tables[label] = _table(backtest(market, window, restricted, execution), market, window)
    return _by_strategy(tables, ["universe"], [strategy.name for strategy in strategies])


def survivorship_sensitivity(
    market: MarketData,
    window: Window,
    strategies: Sequence[Strategy],
    execution: ExecutionConfig,
    *,
    progress: Progress | None = None,
) -> pd.DataFrame | None:
    """Compare fixed strategies on all assets with the same strategies on the assets that survived the window.

    An asset survives that is listed at the end of the window, which nobody could know before. The difference is what a
    table of survivors would have added to each figure.

    Args:
        market: Market data.
        window: Half-open range of rows whose returns are earned.
        strategies: Strategies for the whole universe, each `Restricted` to the survivors in the second row.
        execution: Costs, limits, lag and days between decisions.
        progress: Called after each back-test with the number of back-tests done and in total.

    Returns:
        A table indexed by strategy and universe (`ALL_ASSETS`, `SURVIVORS`, `DIFFERENCE`); None for a market without a
        universe, or if no asset that was listed in the window has left by its end.

    Raises:
        ConfigError: If `backtest` raises it.
    """
    start, stop = window
    if market.universe is None:
        return None
    survives = market.universe.listed[stop - 1]
    if not (market.universe.listed[start - 1 : stop].any(0) & ~survives).any() or not survives.any():
        return None
    kept = [asset for asset, is_kept in zip(market.assets, survives, strict=True) if is_kept]
    subsets = {ALL_ASSETS: market.assets, SURVIVORS: kept}
    table = universe_sensitivity(market, window, strategies, execution, subsets, progress=progress)
    names = [strategy.name for strategy in strategies]
    honest, biased = (pd.DataFrame(table.xs(label, level="universe")) for label in subsets)
    parts = {ALL_ASSETS: honest, SURVIVORS: biased, DIFFERENCE: biased - honest}
    return _by_strategy(parts, ["universe"], names)


def start_sensitivity(
    market: MarketData,
    window: Window,
    strategies: Sequence[Strategy],
    execution: ExecutionConfig,
    shifts_days: Sequence[int],
    *,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Compare fixed strategies over windows with later first days and the same last day.

    A shift that is not a multiple of a month also changes the days on which monthly strategies trade.

    Args:
        market: Market data.
        window: Half-open range of rows whose returns are earned.
        strategies: Strategies to compare.
        execution: Costs, limits, lag and days between decisions.
        shifts_days: Numbers of rows by which the window starts later, each at least 0.
        progress: Called after each back-test with the number of back-tests done and in total.

    Returns:
        A table indexed by strategy and start, the first day whose return is earned.

    Raises:
        ConfigError: If there is no shift, one is negative or leaves no day, or `backtest` raises it.
    """
    start, stop = window
    tables = {}
    for shift in _told(shifts_days, progress):
        if not 0 <= shift < stop - start:
            raise ConfigError(
                f"shifts_days must lie between 0 and {stop - start - 1}, got {shift} (window of {stop - start} days). "
                "Shift by less."
            )
        shifted = (start + shift, stop)
        walked = backtest(market, shifted, strategies, execution)
        tables[pd.Timestamp(market.dates[start + shift])] = _table(walked, market, shifted)
    return _by_strategy(tables, ["start"], [strategy.name for strategy in strategies])


def _kept(market: MarketData, label: str, names: Sequence[str]) -> NDArray[np.bool_]:
    unknown = sorted(set(names) - set(market.assets))
    if unknown or not names:
        raise ConfigError(
            f"subsets must name assets of the market, got {', '.join(unknown) or 'none'} (subset {label}). Choose from "
            f"{', '.join(market.assets)}."
        )
    return np.isin(market.assets, list(names))


def _table(results: Sequence[BacktestResult], market: MarketData, window: Window) -> pd.DataFrame:
    return compare(results, market.cash_returns[slice(*window)], market.periods_per_year)


def _by_strategy(tables: Mapping[Any, pd.DataFrame], names: list[str], strategies: list[str]) -> pd.DataFrame:
    """Join the tables of all conditions, with the strategy as the first level of the index and of the order."""
    if not tables:
        raise ConfigError("conditions must be at least one, got none (sensitivity). Give a cost, subset or shift.")
    joined: pd.DataFrame = pd.concat(tables, names=names)
    order = ["strategy", *(str(name) for name in joined.index.names if name != "strategy")]
    rows: pd.DataFrame = joined.reorder_levels(order)
    ordered: pd.DataFrame = pd.concat([rows.loc[[name]] for name in strategies])
    return ordered


def _told(conditions: Sequence[Condition], progress: Progress | None) -> Iterator[Condition]:
    """Yield the conditions and report progress after each one."""
    for done, condition in enumerate(conditions, start=1):
        yield condition
        if progress is not None:
            progress(done, len(conditions))

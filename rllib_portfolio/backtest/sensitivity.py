"""How much of a result hangs on the cost, the lag, the universe and the first day.

The strategies stay as they are: nothing is trained or chosen again. Each function returns the columns of `compare`,
one row per strategy and condition.
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
from rllib_portfolio.env import kernel
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData, Window
from rllib_portfolio.policies.strategy import MarketView, Strategy

Progress = Callable[[int, int], None]
Condition = TypeVar("Condition")

COSTS_BPS = (0.0, 5.0, 10.0, 25.0, 50.0)
IMPACT = 0.1
"""Of a fund of 1 % of the daily volume: see `env/kernel.py`."""
LAGS = (0, 1)


def repriced(
    result: BacktestResult, market: MarketData, window: Window, cost_bps: float | tuple[float, ...], impact: float = 0.0
) -> BacktestResult:
    """The same walk under other costs, to the bit what walking again would give.

    Costs shrink wealth and leave weights alone, and no strategy sees its wealth or what it paid: the weights held are
    the same. So the days are the batch of one call of the kernel.

    Args:
        result: A walk over `window`.
        market: The market that was walked.
        window: The window that was walked.
        cost_bps: Proportional cost in basis points, one number or one per asset.
        impact: k of the impact term.

    Raises:
        ConfigError: If the window is not the walk's, the costs do not fit the market, or impact leaves no wealth.
    """
    start, stop = window
    if not np.array_equal(result.dates, market.dates[start:stop]):
        raise ConfigError(
            f"window must be the one that was walked, got rows {start} to {stop} beside {result.dates[0]} to "
            f"{result.dates[-1]} (strategy {result.name}). Give the walk's window."
        )
    costs = kernel.CostModel.from_bps(cost_bps, market.num_assets, impact)
    returns = np.column_stack([market.returns[start:stop], market.cash_returns[start:stop]])
    volatility = market.volatility[start - 1 : stop - 1]
    in_cash = kernel.initial_state(stop - start, market.num_assets)
    drifted, _ = kernel.step(
        in_cash, result.weights, returns, volatility, costs
    )  # weights drift alike, whatever they cost
    before = np.concatenate([in_cash.weights[:1], drifted.weights[:-1]])
    _, outcome = kernel.step(in_cash._replace(weights=before), result.weights, returns, volatility, costs)
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
    """What the same walks earn at each cost, indexed by strategy, cost_bps and impact.

    Args:
        results: Walks over `window`.
        market: The market that was walked.
        window: The window that was walked.
        costs_bps: Proportional costs without impact, one row for each.
        impact: k of one row more, with impact; None leaves it out.
        impact_cost_bps: The proportional cost of that row.

    Raises:
        ConfigError: As `repriced`.
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
    """What fixed strategies earn at each cost, each with execution lag 0 and 1.

    Args:
        market: The market to walk.
        window: Half-open range of rows whose returns are earned.
        strategies: Decided anew for each lag.
        execution: Limits and days between decisions. Its cost (the mean, where each asset has its own) is that of the
            row with impact.
        costs_bps: Proportional costs without impact.
        impact: k of the row with impact; None leaves it out.
        progress: Called after each walk with the walks done and the walks in all.

    Returns:
        Indexed by strategy, execution_lag, cost_bps and impact.

    Raises:
        ConfigError: As `backtest` and `repriced`.
    """
    tables = {}
    for lag in _told(LAGS, progress):
        walked = backtest(market, window, strategies, execution.model_copy(update={"execution_lag": lag}))
        tables[lag] = cost_curve(walked, market, window, costs_bps, impact, float(np.mean(execution.cost_bps)))
    return _by_strategy(tables, ["execution_lag"], [strategy.name for strategy in strategies])


@dataclass(frozen=True, eq=False)
class Restricted:
    """A strategy kept to some of its assets: what it would hold of the others goes to these, in proportion.

    Cash stays as it was; where it holds none of the assets that are kept, all is in cash.

    Attributes:
        strategy: The strategy as it is, which sees the whole market.
        kept: Which assets may be held, bool [N].
    """

    strategy: Strategy
    kept: NDArray[np.bool_]

    @property
    def name(self) -> str:
        """The strategy's own name."""
        return self.strategy.name

    def decide(self, view: MarketView) -> FloatArray | None:
        """Its weights on the assets that are kept; hold where it holds."""
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
    """What fixed strategies earn on parts of the universe, each `Restricted` to the part; 1/N is 1/N of the part.

    Args:
        market: The market to walk.
        window: Half-open range of rows whose returns are earned.
        strategies: The strategies, as for the whole universe.
        execution: Costs, limits, lag and days between decisions.
        subsets: Label to names of assets.
        progress: Called after each walk with the walks done and the walks in all.

    Returns:
        Indexed by strategy and universe.

    Raises:
        ConfigError: If a subset is empty or names an asset that the market has not; otherwise as `backtest`.
    """
    tables = {}
    for label in _told(list(subsets), progress):
        kept = _kept(market, label, subsets[label])
        restricted = [Restricted(strategy, kept) for strategy in strategies]
        tables[label] = _table(backtest(market, window, restricted, execution), market, window)
    return _by_strategy(tables, ["universe"], [strategy.name for strategy in strategies])


def start_sensitivity(
    market: MarketData,
    window: Window,
    strategies: Sequence[Strategy],
    execution: ExecutionConfig,
    shifts_days: Sequence[int],
    *,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """What fixed strategies earn from later first days on, all to the same last day.

    A shift by less than a month also moves the days on which the monthly ones trade.

    Args:
        market: The market to walk.
        window: Half-open range of rows whose returns are earned.
        strategies: The strategies.
        execution: Costs, limits, lag and days between decisions.
        shifts_days: Rows by which the window starts later, each at least 0.
        progress: Called after each walk with the walks done and the walks in all.

    Returns:
        Indexed by strategy and start, the first day whose return is earned.

    Raises:
        ConfigError: If a shift leaves no day; otherwise as `backtest`.
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
    """The tables of the conditions as one, strategy first, in the order of strategies and conditions."""
    if not tables:
        raise ConfigError("conditions must be at least one, got none (sensitivity). Give a cost, subset or shift.")
    joined: pd.DataFrame = pd.concat(tables, names=names)
    order = ["strategy", *(str(name) for name in joined.index.names if name != "strategy")]
    rows: pd.DataFrame = joined.reorder_levels(order)
    ordered: pd.DataFrame = pd.concat([rows.loc[[name]] for name in strategies])
    return ordered


def _told(conditions: Sequence[Condition], progress: Progress | None) -> Iterator[Condition]:
    """The conditions in turn; tells of each one that is done."""
    for done, condition in enumerate(conditions, start=1):
        yield condition
        if progress is not None:
            progress(done, len(conditions))

"""The line-up of a report: policies and all baselines, back-tested on the same days at the same costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import pandas as pd

from rllib_portfolio.backtest import classical
from rllib_portfolio.backtest.baselines import AllCash, BuyAndHold, ConstantMix, EqualWeight, index_result
from rllib_portfolio.backtest.engine import BacktestResult, Role, backtest
from rllib_portfolio.backtest.refitting import RefitSchedule, Refitted, failed_fits, month_days
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.config.user_values import require_names
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData, Window
from rllib_portfolio.policies.strategy import Strategy

EQUITY_SHARE = 0.6
MIX_OF = "constant mix of"
"""Beginning of the names of rows with `Role.CONSTANT_MIX`."""


@dataclass(frozen=True, slots=True, eq=False)
class Lineup:
    """Results of the strategies of a report over one window.

    Attributes:
        results: Policies, baselines, the index (if the market has one) and a constant mix for each policy. The name of
            a refitted row says how many of its fits failed.
        failures: One row per failed fit: strategy, date, reason.
        schedules: Maps the names of refitted strategies to their schedules.
    """

    results: tuple[BacktestResult, ...]
    failures: pd.DataFrame
    schedules: Mapping[str, RefitSchedule] = field(default_factory=dict)


def all_strategies(
    market: MarketData,
    schedule: RefitSchedule | None = None,
    risk_aversions: Sequence[float] = (1.0,),
    num_winners: int | None = None,
) -> list[Strategy]:
    """Return all baselines of a report that trade the risky assets and cash.

    Each fit uses only the trailing days before it, never a training window. 1/N monthly and 60/40 trade every month.
    Momentum is fitted as often as `schedule` says, on one year without its last month; the other rules follow
    `schedule`. A month has 21 and a year 252 days if `market.periods_per_year` is 252, and in proportion otherwise.

    Args:
        market: The market of the back-test.
        schedule: When rules are fitted, and on how many days; by default every month on three years.
        risk_aversions: Risk aversions of the Merton rule, which gets one row for each.
        num_winners: Number of assets that momentum holds; by default a quarter of the assets, at least one.

    Raises:
        ConfigError: If the schedule's `min_days`, `num_winners` or a risk aversion is out of range.
    """
    month = month_days(market.periods_per_year)
    year = max(market.periods_per_year, month + 1)
    schedule = schedule or RefitSchedule.of_calendar(market.periods_per_year)
    winners = max(1, market.num_assets // 4) if num_winners is None else num_winners
    _require_settings(market, schedule, risk_aversions, winners)
    monthly = RefitSchedule(month, window_days=0, min_days=0)
    one_year = RefitSchedule(schedule.refit_days, window_days=year, min_days=year)
    momentum = partial(classical.momentum, num_winners=winners, skip_days=month)
    sixty_forty = partial(classical.equal_weight, share=EQUITY_SHARE)
    return [
        EqualWeight(),
        Refitted("1/N monthly", classical.equal_weight, monthly),
        BuyAndHold(),
        AllCash(),
        Refitted("60/40 with cash", sixty_forty, monthly),
        Refitted("inverse volatility", classical.inverse_volatility, schedule),
        Refitted("minimum variance", classical.minimum_variance, schedule),
        Refitted("maximum Sharpe", classical.maximum_sharpe, schedule),
        Refitted("mean-CVaR", classical.mean_cvar, schedule),
        Refitted("risk parity", classical.risk_parity, schedule),
        Refitted("hierarchical risk parity", classical.hierarchical_risk_parity, schedule),
        Refitted(f"momentum top-{winners}", momentum, one_year),
        *(_merton(market, schedule, risk_aversion) for risk_aversion in risk_aversions),
    ]


def reference_strategies(market: MarketData) -> list[Strategy]:
    """Return the baselines of the table at the end of a run: 1/N, buy-and-hold, cash and Merton."""
    schedule = RefitSchedule.of_calendar(market.periods_per_year)
    return [EqualWeight(), BuyAndHold(), AllCash(), _merton(market, schedule, risk_aversion=1.0)]


def average_mix(result: BacktestResult) -> ConstantMix:
    """Return the constant mix of the average weights of a result, which shows what the strategy's timing added.

    Nobody could have held it, since the average is known only after the walk.
    """
    return ConstantMix(result.weights.mean(0), name=f"{MIX_OF} {result.name}", role=Role.CONSTANT_MIX)


def walk_lineup(
    market: MarketData,
    window: Window,
    execution: ExecutionConfig,
    policies: Sequence[Strategy] = (),
    baselines: Sequence[Strategy] | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Lineup:
    """Back-test policies and baselines over one window.

    Args:
        market: Market data.
        window: Half-open range of rows whose returns are earned.
        execution: Costs, limits, lag and days between decisions, the same for all.
        policies: Strategies that are judged; for each, a constant mix of its average weights is back-tested as well.
        baselines: Strategies to compare them with, by default `all_strategies`.
        progress: Called after each day with the number of days done and in total.

    Raises:
        ConfigError: If a name is not allowed, or `backtest` raises it.
    """
    require_names([f"{MIX_OF} {policy.name}" for policy in policies], "strategies", "back-test")
    strategies = [*policies, *(all_strategies(market) if baselines is None else baselines)]
    walks = backtest(market, window, strategies, execution, progress=progress)
    results = [
        replace(walk, name=_row_name(each), role=Role.SUBJECT if k < len(policies) else walk.role)
        for k, (walk, each) in enumerate(zip(walks, strategies, strict=True))
    ]
    index = index_result(market, window, execution)
    mixes = [average_mix(result) for result in results[: len(policies)]]
    mixed = backtest(market, window, mixes, execution) if mixes else ()
    schedules = {strategy.name: strategy.schedule for strategy in strategies if isinstance(strategy, Refitted)}
    return Lineup((*results, *([] if index is None else [index]), *mixed), failed_fits(strategies, market), schedules)


def _row_name(strategy: Strategy) -> str:
    return strategy.row_name if isinstance(strategy, Refitted) else strategy.name


def _merton(market: MarketData, schedule: RefitSchedule, risk_aversion: float) -> Refitted:
    rule = partial(classical.merton, risk_aversion=risk_aversion, periods_per_year=market.periods_per_year)
    return Refitted(f"Merton (risk aversion {risk_aversion:g})", rule, schedule)


def _require_settings(
    market: MarketData, schedule: RefitSchedule, risk_aversions: Sequence[float], num_winners: int
) -> None:
    if schedule.min_days < 2:
        raise ConfigError(
            f"min_days must be at least 2, got {schedule.min_days} (refit schedule). Moments need two days; raise it."
        )
    if not 1 <= num_winners <= market.num_assets:
        raise ConfigError(
            f"num_winners must lie between 1 and the {market.num_assets} assets, got {num_winners} (momentum). Choose "
            "fewer."
        )
    for risk_aversion in risk_aversions:
        if not risk_aversion > 0.0:
            raise ConfigError(f"risk_aversions must be above 0, got {risk_aversion} (Merton). Raise it.")

"""The table of a report, with every figure of every strategy."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.backtest.engine import Role
from rllib_portfolio.backtest.holdings import holdings
from rllib_portfolio.reporting.columns import COLUMNS, UNDEFINED, WHY_EMPTY
from rllib_portfolio.reporting.inputs import ReportInputs
from rllib_portfolio.statistics import metrics
from rllib_portfolio.statistics.bootstrap import BootstrapPlan, Interval, bootstrap_intervals
from rllib_portfolio.statistics.drawdowns import worst_drawdown
from rllib_portfolio.statistics.overfitting import SharpeSample, probabilistic_sharpe_ratio
from rllib_portfolio.statistics.significance import textbook_tests
from rllib_portfolio.statistics.verdicts import Pair, Verdict, judge

TEXTBOOK = ("paired_t_p_value", "wilcoxon_p_value", "kolmogorov_smirnov_p_value")


@dataclass(frozen=True, slots=True, eq=False)
class StatisticsTable:
    """Figures of K strategies.

    Attributes:
        frame: One row per strategy, with the columns of `columns` and a last column `undefined` with the reasons for
            empty cells. Columns without any data are left out; the inputs state which and why.
        verdicts: Verdicts on all strategies but the benchmark; empty without a benchmark.
        block_days: Mean length of a block of the bootstrap.
        num_draws: Number of resampled histories of the bootstrap.
    """

    frame: pd.DataFrame
    verdicts: dict[str, Verdict]
    block_days: int
    num_draws: int

    def number(self, strategy: str, column: str) -> float:
        """Return one figure; NaN if it is undefined.

        Args:
            strategy: Name of the strategy.
            column: Name of the column.

        Raises:
            KeyError: If the table has no such row or column.
        """
        value: Any = self.frame.at[strategy, column]
        return float(value)


def statistics_table(
    inputs: ReportInputs, plan: BootstrapPlan, confidence_p_values: FloatArray | None
) -> StatisticsTable:
    """Compute all figures.

    Args:
        inputs: The strategies and their days.
        plan: Settings of the bootstrap.
        confidence_p_values: P-values of the model confidence set, one per contender; None without a set.
    """
    verdicts = _verdicts(inputs, plan.seed)
    frame, block_days = _measures(inputs, plan)
    frame = frame.join(_drawdown_dates(inputs))
    if verdicts:
        frame = frame.join(_against_benchmark(inputs, verdicts))
    if confidence_p_values is not None:
        in_set = pd.Series(confidence_p_values, index=list(inputs.contenders))
        frame["confidence_set_p_value"] = in_set.reindex(list(inputs.names)).to_numpy()
    if inputs.walks:
        frame = frame.join(_holdings(inputs))
    frame = frame[[name for name in COLUMNS if name in frame]]
    frame[UNDEFINED] = [_why_empty(row) for _, row in frame.iterrows()]
    return StatisticsTable(frame, verdicts, block_days, plan.num_draws)


def _measures(inputs: ReportInputs, plan: BootstrapPlan) -> tuple[pd.DataFrame, int]:
    """Return the measures that need only returns, with their intervals, and the block length of the bootstrap."""
    returns, cash, periods = inputs.returns, inputs.cash_returns, inputs.periods_per_year
    benchmark = inputs.benchmark_returns
    intervals = bootstrap_intervals(returns, benchmark, cash, periods, plan)
    values: dict[str, Any] = {
        "total_return": metrics.total_return(returns),
        "annual_return": metrics.annualised_return(returns, periods),
        "mean_daily_return": metrics.mean_daily_return(returns),
        "annual_volatility": metrics.annualised_volatility(returns, periods),
        "sharpe_ratio": metrics.sharpe_ratio(returns, cash, periods),
        **_bounds("sharpe", intervals.sharpe_ratio),
        "sortino_ratio": metrics.sortino_ratio(returns, cash, periods),
        "calmar_ratio": metrics.calmar_ratio(returns, periods),
        "omega_ratio": metrics.omega_ratio(returns, cash),
        "profit_factor": metrics.profit_factor(returns),
        "win_rate": metrics.win_rate(returns),
        "max_drawdown": metrics.max_drawdown(returns),
        **_bounds("drawdown", intervals.max_drawdown),
        "ulcer_index": metrics.ulcer_index(returns),
        "value_at_risk": metrics.value_at_risk(returns),
        "conditional_value_at_risk": metrics.conditional_value_at_risk(returns),
        **_bounds("cvar", intervals.conditional_value_at_risk),
        "skewness": metrics.skewness(returns),
        "kurtosis": metrics.kurtosis(returns),
        "tail_ratio": metrics.tail_ratio(returns),
        "probabilistic_sharpe_ratio": [
            probabilistic_sharpe_ratio(SharpeSample.of(each, cash, periods)) for each in returns.T
        ],
    }
    if intervals.sharpe_difference is not None:
        values |= _bounds("difference", intervals.sharpe_difference)
    frame = pd.DataFrame(values, index=pd.Index(inputs.names, name="strategy"))
    if inputs.benchmark is not None:
        frame.loc[inputs.benchmark, ["difference_lower", "difference_upper"]] = np.nan
    return frame, intervals.block_days


def _bounds(name: str, interval: Interval) -> dict[str, FloatArray]:
    return {f"{name}_lower": interval.lower, f"{name}_upper": interval.upper}


def _drawdown_dates(inputs: ReportInputs) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for column in inputs.returns.T:
        fall = worst_drawdown(column, inputs.dates)
        rows.append(
            {
                "drawdown_peak": None if fall is None else inputs.day(fall.peak),
                "drawdown_trough": None if fall is None else inputs.day(fall.trough),
                "drawdown_recovery": None if fall is None or np.isnat(fall.recovery) else inputs.day(fall.recovery),
                "drawdown_days": math.nan if fall is None else float(fall.length_days),
            }
        )
    return pd.DataFrame(rows, index=pd.Index(inputs.names, name="strategy"), dtype=object).astype(
        {"drawdown_days": np.float64}
    )


def _verdicts(inputs: ReportInputs, seed: int) -> dict[str, Verdict]:
    """Return the verdicts on all strategies but the benchmark."""
    benchmark, name = inputs.benchmark_returns, inputs.benchmark
    if benchmark is None or name is None:
        return {}
    cash, periods = inputs.cash_returns, inputs.periods_per_year
    return {
        each: judge(Pair(each, name, inputs.days, inputs.of(each), benchmark, cash, periods), seed)
        for each in inputs.names
        if each != name
    }


def _against_benchmark(inputs: ReportInputs, verdicts: dict[str, Verdict]) -> pd.DataFrame:
    benchmark = inputs.benchmark_returns
    assert benchmark is not None
    rows: dict[str, dict[str, Any]] = {}
    for name, judged in verdicts.items():
        returns, cash = inputs.of(name), inputs.cash_returns
        rows[name] = {
            "information_ratio": judged.information_ratio,
            "mean_p_value": judged.mean_p_value,
            "sharpe_difference": judged.sharpe_difference,
            "sharpe_p_value": judged.sharpe_p_value,
            "verdict": judged.outcome,
            **dict(zip(TEXTBOOK, [test.p_value for test in textbook_tests(returns, benchmark)], strict=True)),
            "alpha": float(metrics.alpha(returns, benchmark, cash, inputs.periods_per_year)),
            "beta": float(metrics.beta(returns, benchmark, cash)),
        }
    frame = pd.DataFrame.from_dict(rows, orient="index").reindex(inputs.names).rename_axis("strategy")
    frame["verdict"] = frame["verdict"].astype(object).where(frame["verdict"].notna(), None)
    return frame


def _holdings(inputs: ReportInputs) -> pd.DataFrame:
    benchmark = inputs.walk_of(str(inputs.benchmark))
    assert benchmark is not None
    rows = {walk.name: asdict(holdings(walk, benchmark, inputs.periods_per_year)) for walk in inputs.walks}
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("strategy")
    funds = [name for name in inputs.names if inputs.role_of(name) is Role.INDEX]
    frame.loc[funds, ["effective_assets", "herfindahl", "active_share"]] = np.nan
    return frame


def _why_empty(row: pd.Series[Any]) -> str:
    """Return the reasons for the empty cells of a row: "alpha, beta: it is the benchmark itself; ..."."""
    columns: dict[str, list[str]] = {}
    for column in row.index[row.isna()]:
        columns.setdefault(WHY_EMPTY[column], []).append(str(column))
    return "; ".join(f"{', '.join(alike)}: {reason}" for reason, alike in columns.items())

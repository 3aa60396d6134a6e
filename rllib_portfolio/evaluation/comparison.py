"""Tables and verdicts: strategies side by side on the same days.

A verdict says in one sentence whether a policy beat its benchmark. It rests on the test of the mean active return
alone: the Sharpe-difference test and the deflated Sharpe ratio are not part of it, and a window is one draw of history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rllib_portfolio.errors import ConfigError
from rllib_portfolio.evaluation import metrics
from rllib_portfolio.evaluation.backtest import BacktestResult
from rllib_portfolio.evaluation.significance import mean_active_return_test

FloatArray = NDArray[np.floating[Any]]
Outcome = Literal["beats", "no difference", "loses"]

SIGNIFICANCE_LEVEL = 0.05
SUSPICIOUS_SHARPE_GAIN = 0.3
"""A Sharpe ratio so far above 1/N on real prices is more often leakage than skill."""

_PATTERNS = {"sharpe_ratio": "{:.2f}", "turnover_per_year": "{:.2f}", "cost_per_year": "{:.2%}"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a policy beat its benchmark on the same days.

    Attributes:
        outcome: "beats" or "loses" where the mean active return differs from 0 at the 5 % level, else "no difference".
        p_value: Two-sided, of the stationary-bootstrap test of the mean daily active return.
        information_ratio: Annualised; NaN where the two never differ.
        sharpe_difference: Sharpe ratio of the policy less the benchmark's; NaN where either is undefined.
        leakage_suspected: Whether that difference is 0.3 or more.
        sentence: The verdict in plain English, with its figures.
    """

    outcome: Outcome
    p_value: float
    information_ratio: float
    sharpe_difference: float
    leakage_suspected: bool
    sentence: str


def compare(
    results: Sequence[BacktestResult], cash_returns: FloatArray, periods_per_year: float = metrics.PERIODS_PER_YEAR
) -> pd.DataFrame:
    """One row per strategy, indexed by its name, in the order of `results`.

    Columns, fractions except for the Sharpe ratio: total_return, annual_return, annual_volatility, sharpe_ratio (excess
    over cash), max_drawdown, turnover_per_year (half the L1 distance, summed: 1 is the whole portfolio once),
    cost_per_year (summed fractions of wealth).

    Args:
        results: K results over the same days.
        cash_returns: What cash earned on these days, [T].
        periods_per_year: Days per year.

    Raises:
        ConfigError: If the results are over different days.
    """
    _require_same_days(results, cash_returns)
    returns = np.stack([result.returns for result in results], axis=1)
    turnover = np.stack([result.turnover for result in results], axis=1)
    cost = np.stack([result.cost for result in results], axis=1)
    return pd.DataFrame(
        {
            "total_return": metrics.total_return(returns),
            "annual_return": metrics.annualised_return(returns, periods_per_year),
            "annual_volatility": metrics.annualised_volatility(returns, periods_per_year),
            "sharpe_ratio": metrics.sharpe_ratio(returns, cash_returns, periods_per_year),
            "max_drawdown": metrics.max_drawdown(returns),
            "turnover_per_year": periods_per_year * turnover.mean(axis=0),
            "cost_per_year": periods_per_year * cost.mean(axis=0),
        },
        index=pd.Index([result.name for result in results], name="strategy"),
    )


def format_comparison(frame: pd.DataFrame) -> str:
    """The table of `compare` as text for a terminal: per cent where it is a fraction, `-` where it is undefined."""
    text = pd.DataFrame(index=frame.index)
    for name in frame.columns:
        pattern = _PATTERNS.get(name, "{:.1%}")
        text[name.replace("_", " ")] = ["-" if np.isnan(value) else pattern.format(value) for value in frame[name]]
    return str(text.rename_axis(None).to_string())


def verdict(
    policy: BacktestResult,
    benchmark: BacktestResult,
    cash_returns: FloatArray,
    periods_per_year: float = metrics.PERIODS_PER_YEAR,
    window_name: str = "test",
    seed: int = 0,
) -> Verdict:
    """Whether `policy` beat `benchmark`.

    Args:
        policy: The result that is judged.
        benchmark: What it is judged against, over the same days: 1/N on the same assets.
        cash_returns: What cash earned on these days, [T].
        periods_per_year: Days per year.
        window_name: Name of the window in the sentence.
        seed: Of the bootstrap.

    Raises:
        ConfigError: If the results are over different days.
    """
    _require_same_days((policy, benchmark), cash_returns)
    active = policy.returns - benchmark.returns
    p_value = mean_active_return_test(active, seed=seed).p_value
    outcome: Outcome = "no difference"
    if p_value < SIGNIFICANCE_LEVEL:
        outcome = "beats" if active.mean() > 0.0 else "loses"
    table = compare((policy, benchmark), cash_returns, periods_per_year)
    sharpe_difference = float(table["sharpe_ratio"].iloc[0] - table["sharpe_ratio"].iloc[1])
    information_ratio = float(metrics.information_ratio(policy.returns, benchmark.returns, periods_per_year))
    leakage_suspected = sharpe_difference >= SUSPICIOUS_SHARPE_GAIN
    sentence = (
        f"On the {window_name} window ({policy.dates[0]} to {policy.dates[-1]}) the policy {_CLAIMS[outcome]} "
        f"{benchmark.name}: {_side_by_side(table)}, information ratio {_number(information_ratio)} ({_p(p_value)})."
    )
    if leakage_suspected:
        sentence += (
            f" On real prices a Sharpe ratio {sharpe_difference:.2f} above {benchmark.name} is more often leakage than "
            "skill: hunt for leakage first."
        )
    return Verdict(outcome, p_value, information_ratio, sharpe_difference, leakage_suspected, sentence)


_CLAIMS: dict[Outcome, str] = {
    "beats": "beat",
    "no difference": "did not beat",
    "loses": "lost to",
}


def _side_by_side(table: pd.DataFrame) -> str:
    policy, benchmark = table.iloc[0], table.iloc[1]
    annual = f"annual return {policy.annual_return:.1%} against {benchmark.annual_return:.1%}".replace("%", " %")
    return f"{annual}, Sharpe {_number(policy.sharpe_ratio)} against {_number(benchmark.sharpe_ratio)}"


def _number(value: float) -> str:
    return "undefined" if np.isnan(value) else f"{value:.2f}"


def _p(p_value: float) -> str:
    if p_value < 0.001:
        return "p < 0.001"
    return f"p = {p_value:.2f}" if p_value >= 0.1 else f"p = {p_value:.3f}"


def _require_same_days(results: Sequence[BacktestResult], cash_returns: FloatArray) -> None:
    if not results:
        raise ConfigError("results must be at least one, got none (comparison). Back-test a strategy first.")
    days = results[0].dates
    for result in results:
        if not np.array_equal(result.dates, days):
            raise ConfigError(
                f"results must be over the same days, got {result.dates[0]} to {result.dates[-1]} beside {days[0]} to "
                f"{days[-1]} (strategies {result.name} and {results[0].name}). Back-test them together."
            )
    if np.shape(cash_returns) != days.shape:
        raise ConfigError(
            f"cash_returns must have one number for each of {len(days)} days, got shape {np.shape(cash_returns)} "
            "(comparison). Cut them to the window."
        )

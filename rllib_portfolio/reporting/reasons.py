"""Why a figure of the table is undefined, as well as it can be known."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rllib_portfolio.backtest.engine import BacktestResult, Role
from rllib_portfolio.backtest.holdings import break_even_cost_bps, log_lead
from rllib_portfolio.reporting.inputs import ReportInputs
from rllib_portfolio.statistics import metrics

TEXTBOOK = ("paired_t_p_value", "wilcoxon_p_value", "kolmogorov_smirnov_p_value")

SMALLEST_LEAD = 1e-9
"""Of the logs of final wealth: what is less is the rounding of some thousand products."""

LARGEST_COST_BPS = 1000.0
"""Costs above 10 % of what is traded are no cost that anybody pays: rows that cross there are not said to cross."""

_DRAWDOWN_DATES = ("drawdown_peak", "drawdown_trough", "drawdown_recovery", "drawdown_days")
_OWN_SHARPE = ("sharpe_ratio", "sharpe_lower", "sharpe_upper")
_AGAINST = frozenset(
    (
        "information_ratio",
        "mean_p_value",
        "sharpe_difference",
        "difference_lower",
        "difference_upper",
        "sharpe_p_value",
        "verdict",
        "alpha",
        "beta",
        "break_even_cost_bps",
        *TEXTBOOK,
    )
)


def reason_of(inputs: ReportInputs, name: str, column: str) -> str:
    """Why `column` of the strategy `name` is empty."""
    if name == inputs.benchmark and column in _AGAINST:
        return "it is the benchmark itself"
    if inputs.role_of(name) is Role.INDEX and column in ("effective_assets", "herfindahl", "active_share"):
        return "the index is one fund: what it holds is not known"
    if column == "confidence_set_p_value":
        return "nobody could have held it: it knows the end of the walk"
    if column == "break_even_cost_bps":
        walk, benchmark = inputs.walk_of(name), inputs.walk_of(str(inputs.benchmark))
        assert walk is not None
        assert benchmark is not None
        return no_break_even(walk, benchmark)
    returns = inputs.of(name)
    excess = returns - inputs.cash_returns
    if column == "drawdown_recovery" and float(metrics.max_drawdown(returns)) > 0.0:
        return "not back at the peak by the last day"
    if column in ("calmar_ratio", *_DRAWDOWN_DATES):
        return "it never fell"
    if column == "profit_factor" and not (returns < 0.0).any():
        return "no day lost"
    if column in ("omega_ratio", "sortino_ratio") and not (excess < -metrics.SMALLEST_DENOMINATOR).any():
        return "no day was behind cash"
    if column == "information_ratio":
        return "it never differs from the benchmark, or always by the same"
    if column.startswith(("sharpe", "difference")):
        return _no_sharpe_ratio(inputs, (name,) if column in _OWN_SHARPE else (name, inputs.benchmark))
    if returns.std() < metrics.SMALLEST_DENOMINATOR:
        return "its return never changes"
    return "nothing to divide by"


def no_break_even(walk: BacktestResult, benchmark: BacktestResult) -> str:
    """Why there is no cost up to which a walk is ahead of the benchmark."""
    free, charged = log_lead(walk, benchmark, 0.0), log_lead(walk, benchmark, 1.0)
    if abs(free) < SMALLEST_LEAD:
        if abs(charged) < SMALLEST_LEAD:
            return "level with the benchmark free of cost, and it pays the same"
        side = "ahead of it at any other: it trades less" if charged > 0.0 else "behind it at any other: it trades more"
        return f"level with the benchmark free of cost, and {side}"
    if free > 0.0:
        return "ahead of the benchmark at any cost"
    overtaking = break_even_cost_bps(benchmark, walk)
    if math.isnan(overtaking) or overtaking > LARGEST_COST_BPS:
        return "behind the benchmark even free of cost"
    return (
        f"behind the benchmark even free of cost; only from {overtaking:,.1f} bp on it is ahead, since it trades less"
    )


def _no_sharpe_ratio(inputs: ReportInputs, names: Sequence[str | None]) -> str:
    """Nothing to divide by: in the days themselves, or in some that the bootstrap draws.

    Args:
        inputs: The days.
        names: The strategy, and the benchmark where the figure takes its Sharpe ratio too.
    """
    for each in names:
        if each is not None and math.isnan(metrics.sharpe_ratio(inputs.of(each), inputs.cash_returns)):
            whose = "its" if each == names[0] else "the benchmark's"
            return f"{whose} excess return never changes, so that there is no risk to divide by"
    return "excess returns change on so few days that some resampled histories hold no risk to divide by"

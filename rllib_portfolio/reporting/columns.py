"""Columns of the table: their names in files, their labels for readers, and the format of their values."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

DASH = "–"


class Column(NamedTuple):
    """A column of the table, which holds one figure of every strategy."""

    name: str
    """Name of the column in files."""
    label: str
    pattern: str
    """Format of a value as text; "{}" for texts."""
    meaning: str
    """Short explanation for the reader."""


GROUPS: dict[str, tuple[Column, ...]] = {
    "Return and risk": (
        Column("total_return", "total return", "{:.1%}", "final over first wealth, less 1"),
        Column("annual_return", "return a year", "{:.1%}", "geometric"),
        Column("mean_daily_return", "mean daily return", "{:.3%}", "arithmetic"),
        Column("annual_volatility", "volatility", "{:.1%}", "annualised standard deviation of daily returns"),
        Column("sharpe_ratio", "Sharpe", "{:.2f}", "annualised, excess over cash"),
        Column("sharpe_lower", "Sharpe from", "{:.2f}", "lower end of the 95 % interval"),
        Column("sharpe_upper", "to", "{:.2f}", "upper end of the 95 % interval"),
        Column("sortino_ratio", "Sortino", "{:.2f}", "downside deviation over all days"),
        Column("calmar_ratio", "Calmar", "{:.2f}", "return a year over maximum drawdown"),
        Column("omega_ratio", "Omega", "{:.2f}", "gains over losses beyond what cash earned"),
        Column("profit_factor", "profit factor", "{:.2f}", "sum of gains over sum of losses"),
        Column("win_rate", "win rate", "{:.1%}", "share of all days that gained"),
    ),
    "Losses and tails": (
        Column("max_drawdown", "max drawdown", "{:.1%}", "largest fall from a peak, the start included"),
        Column("drawdown_lower", "drawdown from", "{:.1%}", "lower end of the 95 % interval"),
        Column("drawdown_upper", "to", "{:.1%}", "upper end of the 95 % interval"),
        Column("drawdown_peak", "peak", "{}", "last day at the peak before it"),
        Column("drawdown_trough", "trough", "{}", "day of the lowest wealth"),
        Column("drawdown_recovery", "recovery", "{}", "first day back at the peak"),
        Column("drawdown_days", "length", "{:.0f} d", "trading days from the peak to the recovery, or to the last day"),
        Column("ulcer_index", "ulcer index", "{:.1%}", "root mean square of the drawdown"),
        Column("value_at_risk", "VaR 95 %", "{:.2%}", "one-day historical loss"),
        Column("conditional_value_at_risk", "CVaR 95 %", "{:.2%}", "mean loss of the worst 5 % of days"),
        Column("cvar_lower", "CVaR from", "{:.2%}", "lower end of the 95 % interval"),
        Column("cvar_upper", "to", "{:.2%}", "upper end of the 95 % interval"),
        Column("skewness", "skew", "{:.2f}", "third standardised moment"),
        Column("kurtosis", "kurtosis", "{:.1f}", "fourth standardised moment: 3 for a normal distribution"),
        Column("tail_ratio", "tail ratio", "{:.2f}", "95 % quantile over 5 % quantile: above 1, gains reach further"),
    ),
    "Against the benchmark": (
        Column("information_ratio", "information ratio", "{:.2f}", "annualised mean over deviation of active returns"),
        Column("mean_p_value", "p, mean active return", "{:.3f}", "stationary block bootstrap, two-sided"),
        Column("sharpe_difference", "Sharpe difference", "{:.2f}", "Sharpe ratio less the benchmark's"),
        Column("difference_lower", "difference from", "{:.2f}", "lower end of the 95 % interval, days drawn jointly"),
        Column("difference_upper", "to", "{:.2f}", "upper end of the 95 % interval, days drawn jointly"),
        Column("sharpe_p_value", "p, Sharpe difference", "{:.3f}", "Ledoit and Wolf (2008), studentised bootstrap"),
        Column("verdict", "verdict", "{}", "from both p-values, Holm's step-down at 5 %"),
        Column("paired_t_p_value", "p, paired t", "{:.3f}", "textbook test, see what it ignores"),
        Column("wilcoxon_p_value", "p, Wilcoxon", "{:.3f}", "textbook test, see what it ignores"),
        Column("kolmogorov_smirnov_p_value", "p, Kolmogorov-Smirnov", "{:.3f}", "textbook test, see what it ignores"),
        Column("alpha", "alpha a year", "{:.1%}", "Jensen's, from daily returns in excess of cash"),
        Column("beta", "beta", "{:.2f}", "to the benchmark, in excess of cash"),
    ),
    "All at once": (
        Column(
            "probabilistic_sharpe_ratio",
            "probabilistic Sharpe",
            "{:.1%}",
            "1 less the one-sided p-value of a Sharpe ratio of at most 0",
        ),
        Column(
            "confidence_set_p_value", "p, may be the best", "{:.3f}", "model confidence set: below 0.05 is out of it"
        ),
    ),
    "Trading and exposure": (
        Column("turnover_per_year", "turnover a year", "{:.2f}x", "1x is the whole portfolio once"),
        Column("cost_per_year", "cost a year", "{:.2%}", "summed fractions of wealth"),
        Column("cost_drag", "cost drag", "{:.2%}", "return a year before costs less after them"),
        Column("break_even_cost_bps", "break-even cost", "{:.1f} bp", "cost at which it ends level with the benchmark"),
        Column(
            "effective_assets", "effective assets", "{:.1f}", "1 / sum of squared weights, mean, cash counts as one"
        ),
        Column("herfindahl", "Herfindahl", "{:.3f}", "sum of squared weights, mean"),
        Column("active_share", "active share", "{:.1%}", "half the distance to 1/N, mean"),
    ),
}

COLUMNS: dict[str, Column] = {column.name: column for group in GROUPS.values() for column in group}
UNDEFINED = "undefined"
"""Name of the column in files that gives the reasons for the empty cells of a row."""

_DRAWDOWN = ("calmar_ratio", "drawdown_peak", "drawdown_trough", "drawdown_days")
_DIFFERENCE = ("sharpe_difference", "difference_lower", "difference_upper", "sharpe_p_value")
_TESTS = ("information_ratio", "mean_p_value", "paired_t_p_value", "wilcoxon_p_value", "kolmogorov_smirnov_p_value")
_NO_RISK = "excess return never changes, or on so few days that some resampled histories hold no risk to divide by"
_WHY_EMPTY: dict[str, tuple[str, ...]] = {
    f"its {_NO_RISK}": ("sharpe_ratio", "sharpe_lower", "sharpe_upper"),
    f"it is the benchmark itself, or its or the benchmark's {_NO_RISK}": _DIFFERENCE,
    "it is the benchmark itself, or never differs from it, or always by the same": _TESTS,
    "it is the benchmark itself, or the benchmark's return never changes": ("alpha", "beta"),
    "it is the benchmark itself": ("verdict",),
    "it is the benchmark itself, or behind it even free of cost, or ahead of it at any cost, or both are level free of "
    "cost": ("break_even_cost_bps",),
    "no day was behind cash": ("sortino_ratio", "omega_ratio"),
    "it never fell": _DRAWDOWN,
    "it never fell, or is not back at the peak by the last day": ("drawdown_recovery",),
    "no day lost": ("profit_factor",),
    "its return never changes": ("skewness", "kurtosis", "tail_ratio", "probabilistic_sharpe_ratio"),
    "nobody could have held it: it knows the end of the walk": ("confidence_set_p_value",),
    "the index is one fund: what it holds is not known": ("effective_assets", "herfindahl", "active_share"),
}
"""Maps each reason to the columns that it applies to."""

WHY_EMPTY = dict.fromkeys(COLUMNS, "nothing to divide by") | {
    column: reason for reason, columns in _WHY_EMPTY.items() for column in columns
}
"""Maps each column to the reason why one of its cells may be empty."""


def text_of(name: str, value: Any) -> str:
    """Return a value of the column `name` as text for the reader; a dash if it is undefined."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return DASH
    column = COLUMNS.get(name)
    text = (column.pattern if column else "{}").format(value)
    if name.endswith("p_value") and float(value) < 0.001:
        return "< 0.001"
    return text.replace("%", " %").replace("-", "−") if not isinstance(value, str) else text

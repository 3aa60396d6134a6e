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
        Column("total_return", "total return", "{:.1%}", "final wealth / initial wealth − 1"),
        Column("annual_return", "annual return", "{:.1%}", "geometric mean of daily returns, annualised"),
        Column("mean_daily_return", "mean daily return", "{:.3%}", "arithmetic mean"),
        Column("annual_volatility", "volatility", "{:.1%}", "annualised standard deviation of daily returns"),
        Column("sharpe_ratio", "Sharpe", "{:.2f}", "annualised, excess over cash"),
        Column("sharpe_lower", "Sharpe from", "{:.2f}", "lower end of the 95 % interval"),
        Column("sharpe_upper", "to", "{:.2f}", "upper end of the 95 % interval"),
        Column("sortino_ratio", "Sortino", "{:.2f}", "excess return over downside deviation of all days, annualised"),
        Column("calmar_ratio", "Calmar", "{:.2f}", "annual return / maximum drawdown"),
        Column("omega_ratio", "Omega", "{:.2f}", "sum of gains above cash / sum of losses below cash"),
        Column("profit_factor", "profit factor", "{:.2f}", "sum of gains / sum of losses"),
        Column("win_rate", "days with a gain", "{:.1%}", "share of days with a positive return"),
    ),
    "Losses and tails": (
        Column("max_drawdown", "max drawdown", "{:.1%}", "largest fall from a peak, the start included"),
        Column("drawdown_lower", "drawdown from", "{:.1%}", "lower end of the 95 % interval"),
        Column("drawdown_upper", "to", "{:.1%}", "upper end of the 95 % interval"),
        Column("drawdown_peak", "peak", "{}", "last day at the peak before the maximum drawdown"),
        Column("drawdown_trough", "trough", "{}", "day of the lowest wealth"),
        Column("drawdown_recovery", "recovery", "{}", "first day back at the peak"),
        Column("drawdown_days", "length", "{:.0f} d", "trading days from the peak to the recovery, or to the last day"),
        Column("ulcer_index", "ulcer index", "{:.1%}", "root mean square of the drawdown"),
        Column("value_at_risk", "VaR 95 %", "{:.2%}", "daily loss that is exceeded on 5 % of days"),
        Column("conditional_value_at_risk", "CVaR 95 %", "{:.2%}", "mean loss of the worst 5 % of days"),
        Column("cvar_lower", "CVaR from", "{:.2%}", "lower end of the 95 % interval"),
        Column("cvar_upper", "to", "{:.2%}", "upper end of the 95 % interval"),
        Column("skewness", "skew", "{:.2f}", "third standardised moment"),
        Column("kurtosis", "kurtosis", "{:.1f}", "fourth standardised moment: 3 for a normal distribution"),
        Column(
            "tail_ratio",
            "tail ratio",
            "{:.2f}",
            "absolute 95 % quantile / absolute 5 % quantile; above 1 if the upper tail is longer",
        ),
    ),
    "Against the benchmark": (
        Column(
            "information_ratio",
            "information ratio",
            "{:.2f}",
            "annualised mean / standard deviation of active returns (returns minus those of the benchmark)",
        ),
        Column("mean_p_value", "p, mean active return", "{:.3f}", "two-sided test that it is 0 (stationary bootstrap)"),
        Column("sharpe_difference", "Sharpe difference", "{:.2f}", "Sharpe ratio minus that of the benchmark"),
        Column(
            "difference_lower", "Sharpe difference from", "{:.2f}", "lower end of the 95 % interval, paired resampling"
        ),
        Column("difference_upper", "to", "{:.2f}", "upper end of the 95 % interval, paired resampling"),
        Column(
            "sharpe_p_value",
            "p, Sharpe difference",
            "{:.3f}",
            "two-sided test that it is 0 (Ledoit and Wolf 2008, bootstrap)",
        ),
        Column("verdict", "verdict", "{}", "follows from both p-values with Holm's correction at 5 %"),
        Column("paired_t_p_value", "p, paired t", "{:.3f}", "textbook test; its assumptions are listed below"),
        Column("wilcoxon_p_value", "p, Wilcoxon", "{:.3f}", "textbook test; its assumptions are listed below"),
        Column(
            "kolmogorov_smirnov_p_value",
            "p, Kolmogorov-Smirnov",
            "{:.3f}",
            "textbook test; its assumptions are listed below",
        ),
        Column("alpha", "annual alpha", "{:.1%}", "Jensen's alpha, from daily returns in excess of cash"),
        Column("beta", "beta", "{:.2f}", "slope of the regression on the benchmark's returns, both in excess of cash"),
    ),
    "Multiple testing": (
        Column(
            "probabilistic_sharpe_ratio",
            "probabilistic Sharpe",
            "{:.1%}",
            "1 minus the one-sided p-value of H0: true Sharpe ratio at most 0",
        ),
        Column(
            "confidence_set_p_value",
            "p, best strategy",
            "{:.3f}",
            "model confidence set; a strategy below 0.05 is not in the set",
        ),
    ),
    "Trading and exposure": (
        Column(
            "turnover_per_year",
            "annual turnover",
            "{:.2f}x",
            "one-way, cash included, per year; 1x: the whole portfolio is replaced once",
        ),
        Column("cost_per_year", "annual cost", "{:.2%}", "transaction costs per year as a share of wealth"),
        Column("cost_drag", "cost drag", "{:.2%}", "annual return before costs minus annual return after costs"),
        Column(
            "break_even_cost_bps",
            "break-even cost",
            "{:.1f} bp",
            "cost of the traded amount, paid by the strategy and the benchmark, at which both end with the same wealth",
        ),
        Column(
            "effective_assets",
            "effective assets",
            "{:.1f}",
            "mean over days of 1 / sum of squared weights; cash counts as one asset",
        ),
        Column("herfindahl", "Herfindahl", "{:.3f}", "mean over days of the sum of squared weights, cash included"),
        Column(
            "active_share",
            "active share",
            "{:.1%}",
            "mean over days of half the sum of |weight − weight of 1/N|, cash included",
        ),
    ),
}

COLUMNS: dict[str, Column] = {column.name: column for group in GROUPS.values() for column in group}
UNDEFINED = "undefined"
"""Name of the column in files that gives the reasons for the empty cells of a row."""

_DRAWDOWN = ("calmar_ratio", "drawdown_peak", "drawdown_trough", "drawdown_days")
_DIFFERENCE = ("sharpe_difference", "difference_lower", "difference_upper", "sharpe_p_value")
_TESTS = ("information_ratio", "mean_p_value", "paired_t_p_value", "wilcoxon_p_value", "kolmogorov_smirnov_p_value")
_NO_RISK = "excess return is constant, or there are so few days that some resamples have zero volatility"
_WHY_EMPTY: dict[str, tuple[str, ...]] = {
    f"its {_NO_RISK}": ("sharpe_ratio", "sharpe_lower", "sharpe_upper"),
    f"it is the benchmark, or its or the benchmark's {_NO_RISK}": _DIFFERENCE,
    "it is the benchmark, or its active return is constant": _TESTS,
    "it is the benchmark, or the benchmark's excess return is constant": ("alpha", "beta"),
    "it is the benchmark": ("verdict",),
    "it is the benchmark, or is not ahead of the benchmark without costs, or stays ahead of it at any cost": (
        "break_even_cost_bps",
    ),
    "no day had a return below cash": ("sortino_ratio", "omega_ratio"),
    "it has no drawdown": _DRAWDOWN,
    "it has no drawdown, or is not back at the peak by the last day": ("drawdown_recovery",),
    "no day has a loss": ("profit_factor",),
    "its return is constant": ("skewness", "kurtosis", "tail_ratio", "probabilistic_sharpe_ratio"),
    "it could not have been held: it uses weights that are known only at the end": ("confidence_set_p_value",),
    "the index is a single fund, whose holdings are not known": ("effective_assets", "herfindahl", "active_share"),
}
"""Maps each reason to the columns that it applies to."""

WHY_EMPTY = dict.fromkeys(COLUMNS, "its denominator is zero") | {
    column: reason for reason, columns in _WHY_EMPTY.items() for column in columns
}
"""Maps each column to the reason why one of its cells may be empty."""


def text_of(name: str, value: Any) -> str:
    """Return a value of the table as text for the reader.

    Args:
        name: Name of the column in files. Values of a column that is not in `COLUMNS` are shown without a format.
        value: The value; None, NaN and infinity become a dash.
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return DASH
    column = COLUMNS.get(name)
    text = (column.pattern if column else "{}").format(value)
    if name.endswith("p_value") and float(value) < 0.001:
        return "< 0.001"
    return text.replace("%", " %").replace("-", "−") if not isinstance(value, str) else text

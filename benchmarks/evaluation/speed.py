"""Seconds for the figures of a full report: 15 strategies x 8313 days, 10000 bootstrap draws.

`python -m benchmarks.evaluation.speed`; the target of the issue is 60 s on two cores.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.machine import description, peak_memory_mb
from rllib_portfolio.evaluation import metrics, rolling
from rllib_portfolio.evaluation.bootstrap import BootstrapPlan, bootstrap_intervals
from rllib_portfolio.evaluation.multiple_comparison import model_confidence_set, superior_ability_test
from rllib_portfolio.evaluation.sharpe_tests import bootstrap_sharpe_test

STRATEGIES, DAYS, DRAWS = 15, 8313, 10_000


def main() -> int:
    """Time each part once and print JSON."""
    rng = np.random.default_rng(0)
    wild = 0.008 * np.exp(0.5 * np.convolve(rng.normal(size=DAYS + 59), np.ones(60) / 60**0.5, "valid"))
    common = rng.normal(size=(DAYS, 1))
    returns = 0.0004 + wild[:, None] * (0.8 * common + 0.6 * rng.normal(size=(DAYS, STRATEGIES)))
    benchmark, cash = returns[:, 0].copy(), np.full(DAYS, 1e-4)
    parts: dict[str, Callable[[], Any]] = {
        "metrics": lambda: _all_metrics(returns, benchmark, cash),
        "rolling": lambda: _all_rolling(returns, benchmark, cash),
        "bootstrap": lambda: bootstrap_intervals(returns, benchmark, cash, plan=BootstrapPlan(num_draws=DRAWS)),
        "sharpe tests": lambda: [bootstrap_sharpe_test(each, benchmark, cash) for each in returns.T[1:]],
        "superior ability": lambda: superior_ability_test(returns[:, 1:], benchmark),
        "confidence set": lambda: model_confidence_set(returns),
    }
    seconds = {name: _seconds(part) for name, part in parts.items()}
    required = sum(seconds[name] for name in ("metrics", "rolling", "bootstrap"))
    print(
        json.dumps(
            {
                "machine": description(),
                "seconds": seconds,
                "metrics_rolling_bootstrap": round(required, 2),
                "peak_memory_mb": peak_memory_mb(),
            },
            indent=1,
        )
    )
    return int(required > 60.0)


def _seconds(part: Callable[[], Any]) -> float:
    started = time.perf_counter()
    part()
    return round(time.perf_counter() - started, 2)


def _all_metrics(returns: np.ndarray, benchmark: np.ndarray, cash: np.ndarray) -> list[Any]:
    plain = (
        metrics.total_return,
        metrics.annualised_return,
        metrics.mean_daily_return,
        metrics.annualised_volatility,
        metrics.max_drawdown,
        metrics.ulcer_index,
        metrics.calmar_ratio,
        metrics.value_at_risk,
        metrics.conditional_value_at_risk,
        metrics.tail_ratio,
        metrics.skewness,
        metrics.kurtosis,
        metrics.win_rate,
        metrics.profit_factor,
    )
    over_cash = (metrics.sharpe_ratio, metrics.sortino_ratio, metrics.omega_ratio)
    against = (metrics.beta, metrics.alpha)
    return [
        *(measure(returns) for measure in plain),
        *(measure(returns, cash) for measure in over_cash),
        *(measure(returns, benchmark, cash) for measure in against),
        metrics.information_ratio(returns, benchmark),
    ]


def _all_rolling(returns: np.ndarray, benchmark: np.ndarray, cash: np.ndarray) -> list[Any]:
    return [
        rolling.rolling_sharpe_ratio(returns, cash),
        rolling.rolling_volatility(returns),
        rolling.rolling_max_drawdown(returns),
        rolling.rolling_beta(returns, benchmark, cash),
    ]


if __name__ == "__main__":
    sys.exit(main())

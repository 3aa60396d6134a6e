"""Seconds for the figures of a full report (15 strategies x 8313 days, 10000 draws), and for the baselines' back-test.

`python -m benchmarks.evaluation.speed`, about three minutes; the targets are 60 s and 180 s on two cores. The
baselines walk the bundled universe of 1990 to 2022 in one process, from the day on that its features are defined.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.machine import description, destination, write_record
from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.backtest.lineup import average_mix, walk_lineup
from rllib_portfolio.config import ExecutionConfig, MarketConfig
from rllib_portfolio.market import load_market
from rllib_portfolio.statistics import metrics, rolling
from rllib_portfolio.statistics.bootstrap import BootstrapPlan, bootstrap_intervals
from rllib_portfolio.statistics.multiple_comparison import model_confidence_set, superior_ability_test
from rllib_portfolio.statistics.sharpe_tests import bootstrap_sharpe_test

STRATEGIES, DAYS, DRAWS = 15, 8313, 10_000
QUICK_DAYS, QUICK_DRAWS = 1000, 500
PLAIN = ["total_return", "annualised_return", "mean_daily_return", "annualised_volatility", "max_drawdown"]
PLAIN += ["ulcer_index", "calmar_ratio", "value_at_risk", "conditional_value_at_risk", "tail_ratio", "skewness"]
PLAIN += ["kurtosis", "win_rate", "profit_factor"]
"""Measures of returns alone."""
REQUIRED = ("metrics", "rolling", "bootstrap")
FIGURES, BASELINES = "metrics, rolling measures and bootstrap intervals", "back-test of the baselines"
TARGETS = {FIGURES: 60.0, BASELINES: 180.0}
"""Seconds that each may take at most."""


def run(output: Path, *, quick: bool = False) -> int:
    """Time each part once, print, and write evaluation_speed.json into `output`.

    Returns:
        Exit code 0; a target that is missed is no error.
    """
    days, draws = (QUICK_DAYS, QUICK_DRAWS) if quick else (DAYS, DRAWS)
    machine = description()
    seconds = {}
    for name, part in _parts(days, draws).items():
        seconds[name] = _seconds(part)
        print(f"{name:<20}{seconds[name]:>8.2f} s", flush=True)
    walk = _baselines(days)
    print(f"{walk['rows']} baselines over {walk['days']} days: {walk['seconds']} s, {walk['failed_fits']} failed fits")
    record = {
        "suite": "evaluation_speed",
        "machine": machine,
        "size": {"strategies": STRATEGIES, "days": days, "draws": draws},
        "seconds": seconds,
        "baselines": walk,
        "targets": targets(seconds, walk["seconds"]),
    }
    write_record(output / "evaluation_speed.json", record)
    return 0


def targets(seconds: Mapping[str, float], baselines_s: float) -> list[dict[str, Any]]:
    """Return each target beside what was measured."""
    measured = {FIGURES: round(sum(seconds[name] for name in REQUIRED), 2), BASELINES: baselines_s}
    return [
        {"name": name, "at_most_s": bound, "seconds": measured[name], "met": measured[name] < bound}
        for name, bound in TARGETS.items()
    ]


def _parts(days: int, draws: int) -> dict[str, Callable[[], Any]]:
    """Return the computations to be timed, on simulated returns with clustered volatility."""
    rng = np.random.default_rng(0)
    wild = 0.008 * np.exp(0.5 * np.convolve(rng.normal(size=days + 59), np.ones(60) / 60**0.5, "valid"))
    common = rng.normal(size=(days, 1))
    returns = 0.0004 + wild[:, None] * (0.8 * common + 0.6 * rng.normal(size=(days, STRATEGIES)))
    benchmark, cash = returns[:, 0].copy(), np.full(days, 1e-4)
    return {
        "metrics": lambda: _all_metrics(returns, benchmark, cash),
        "rolling": lambda: _all_rolling(returns, benchmark, cash),
        "bootstrap": lambda: bootstrap_intervals(returns, benchmark, cash, plan=BootstrapPlan(num_draws=draws)),
        "sharpe tests": lambda: [bootstrap_sharpe_test(each, benchmark, cash) for each in returns.T[1:]],
        "superior ability": lambda: superior_ability_test(returns[:, 1:], benchmark),
        "confidence set": lambda: model_confidence_set(returns),
    }


def _baselines(num_days: int) -> dict[str, Any]:
    """The walk of all baselines over the last `num_days` days of the bundled universe: the index and a mix with them.

    The market is read before the clock starts. The mix, 1/N's average weights, stands for that of a policy.
    """
    market = load_market(MarketConfig())
    first, stop = market.windows["all"]  # features of a year come before it
    window = (max(first, stop - num_days), stop)
    started = time.perf_counter()
    with tqdm(total=window[1] - window[0], desc="baselines", unit="day", mininterval=2.0) as bar:
        lineup = walk_lineup(market, window, ExecutionConfig(), progress=lambda done, _: bar.update(done - bar.n))
        mixes = backtest(market, window, [average_mix(lineup.results[0])], ExecutionConfig())
    elapsed = time.perf_counter() - started
    days = [str(lineup.results[0].dates[place]) for place in (0, -1)]
    return {
        "rows": len(lineup.results) + len(mixes),
        "names": [result.name for result in (*lineup.results, *mixes)],
        "days": len(lineup.results[0].dates),
        "first_day": days[0],
        "last_day": days[1],
        "failed_fits": len(lineup.failures),
        "seconds": round(elapsed, 1),
    }


def _seconds(part: Callable[[], Any]) -> float:
    started = time.perf_counter()
    part()
    return round(time.perf_counter() - started, 2)


def _all_metrics(returns: np.ndarray, benchmark: np.ndarray, cash: np.ndarray) -> list[Any]:
    return [
        *(getattr(metrics, name)(returns) for name in PLAIN),
        *(getattr(metrics, name)(returns, cash) for name in ("sharpe_ratio", "sortino_ratio", "omega_ratio")),
        *(getattr(metrics, name)(returns, benchmark, cash) for name in ("beta", "alpha")),
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
    folder, is_quick = destination("benchmarks.evaluation.speed", __doc__)
    sys.exit(run(folder, quick=is_quick))

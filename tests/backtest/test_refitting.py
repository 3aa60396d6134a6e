from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest

from rllib_portfolio.backtest.baselines import AllCash
from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.backtest.refitting import History, RefitSchedule, Refitted, failed_fits
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.errors import ConfigError
from tests.backtest.hand_made import market_of, random_market

WINDOW = (20, 60)
WEEKLY = RefitSchedule(refit_days=5, window_days=8, min_days=4)
MIX = np.array([0.4, 0.3, 0.2, 0.0, 0.1])


@dataclass
class Watched:
    """A rule that keeps what it was shown and fails when it is told to."""

    failing: tuple[int, ...] = ()
    shown: list[History] = field(default_factory=list)

    def __call__(self, history: History) -> np.ndarray:
        self.shown.append(history)
        if len(self.shown) - 1 in self.failing:
            raise ConfigError("weights must be an optimum, got none (by hand).")
        return np.append(np.roll(MIX[:4], len(self.shown)), 0.1)


@pytest.mark.parametrize("lag", [0, 1])
def test_a_rule_sees_the_trailing_days_and_ends_where_knowledge_ends(lag: int) -> None:
    market, rule = random_market(), Watched()
    backtest(market, WINDOW, [Refitted("watched", rule, WEEKLY)], ExecutionConfig(execution_lag=lag))
    assert len(rule.shown) == 8  # 40 days, every 5
    for fit, history in enumerate(rule.shown):
        last = 19 + 5 * fit - lag  # the first decision is at row 19
        np.testing.assert_array_equal(history.returns, market.returns[last - 7 : last + 1])
        np.testing.assert_array_equal(history.cash_returns, market.cash_returns[last - 7 : last + 1])


def test_it_trades_when_it_is_fitted_and_drifts_in_between() -> None:
    (result,) = backtest(random_market(), WINDOW, [Refitted("watched", Watched(), WEEKLY)], ExecutionConfig())
    traded = result.traded > 0.0
    assert list(np.flatnonzero(traded)) == list(range(0, 40, 5))
    np.testing.assert_array_equal(result.weights[5], [*np.roll(MIX[:4], 2), 0.1])


def test_early_fits_take_the_days_that_there_are() -> None:
    # decisions at rows 6, 11, 16 of a market from row 0, lag 1: 5, 10 and 15 days known, at most 8 taken
    rule = Watched()
    backtest(random_market(), (7, 20), [Refitted("watched", rule, WEEKLY)], ExecutionConfig())
    assert [len(history.returns) for history in rule.shown] == [5, 8, 8]


def test_a_fit_waits_for_a_decision() -> None:
    # decisions every 3 days, at days 0 3 6 9 ...; the first one at least 5 days after the fit before is 6 later
    rule = Watched()
    (result,) = backtest(
        random_market(), WINDOW, [Refitted("watched", rule, WEEKLY)], ExecutionConfig(rebalance_days=3)
    )
    assert list(np.flatnonzero(result.traded > 0.0)) == [0, 6, 12, 18, 24, 30, 36]


def test_a_fit_that_fails_trades_nothing_and_is_reported_by_its_date() -> None:
    market, strategy = random_market(), Refitted("watched", Watched(failing=(1, 4)), WEEKLY)
    (result,) = backtest(market, WINDOW, [strategy], ExecutionConfig())
    assert list(np.flatnonzero(result.traded > 0.0)) == [0, 10, 15, 25, 30, 35]
    # the weights of day 5 are those of day 4, drifted by its returns
    grown = result.weights[4] * (1.0 + np.append(market.returns[24], market.cash_returns[24]))
    assert result.weights[5] == pytest.approx(grown / grown.sum(), rel=1e-12)
    report = failed_fits([AllCash(), strategy], market)
    assert list(report["strategy"]) == ["watched", "watched"]
    assert list(report["date"]) == [pd.Timestamp(market.dates[19 + 5]), pd.Timestamp(market.dates[19 + 20])]
    assert list(report["reason"]) == ["weights must be an optimum, got none (by hand)."] * 2


def test_too_short_a_history_is_a_failed_fit() -> None:
    # decision at row 3, lag 1: rows 1 and 2 are known
    market, strategy = random_market(), Refitted("watched", Watched(), WEEKLY)
    backtest(market, (4, 12), [strategy], ExecutionConfig())
    (failure,) = strategy.failures
    assert failure.row == 3
    assert failure.reason.startswith("history must hold at least 4 days, got 2 (watched). Start later")


def test_a_new_walk_starts_anew() -> None:
    market, strategy = random_market(), Refitted("mix", lambda history: MIX, WEEKLY)
    first = backtest(market, (4, 33), [strategy], ExecutionConfig())
    again = backtest(market, (4, 33), [strategy], ExecutionConfig())
    np.testing.assert_array_equal(first[0].weights, again[0].weights)
    assert len(strategy.failures) == 1


def test_a_fixed_mix_needs_no_history() -> None:
    market = market_of([[0.0], [0.1], [0.1]])
    mix = Refitted("mix", lambda history: np.array([0.6, 0.4]), RefitSchedule(21, window_days=0, min_days=0))
    (result,) = backtest(market, (2, 3), [mix], ExecutionConfig())  # nothing is known: the close of row 0
    assert list(result.weights[0]) == [0.6, 0.4]
    assert mix.failures == []


def test_a_mistake_in_a_rule_is_not_taken_for_a_failed_fit() -> None:
    faulty = Refitted("faulty", lambda history: {}["missing"], WEEKLY)
    with pytest.raises(ConfigError, match=r"KeyError: 'missing' \(strategy faulty"):
        backtest(random_market(), WINDOW, [faulty], ExecutionConfig())


def test_moments_are_the_plain_sample_moments() -> None:
    # returns 1 %, 3 % and -1 %, 1 %, cash 0.5 % and 1.5 %: excess 0.5, 1.5 and -1.5, -0.5 %; each deviates by 1 %
    history = History(np.array([[0.01, -0.01], [0.03, 0.01]]), np.array([0.005, 0.015]))
    assert history.mean_excess == pytest.approx([0.01, -0.01])
    assert history.covariance == pytest.approx(np.full((2, 2), 2e-4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"refit_days": 0}, r"refit_days must be at least 1, got 0 \(refit schedule\)"),
        ({"window_days": 10, "min_days": 11}, r"min_days must lie between 0 and window_days 10, got 11"),
        ({"min_days": -1}, r"min_days must lie between 0 and window_days 756, got -1"),
    ],
)
def test_a_schedule_says_what_is_wrong_with_it(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RefitSchedule(**settings)

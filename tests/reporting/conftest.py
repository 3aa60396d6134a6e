"""One report with everything in it, made once: five crises, seeds, a cost curve, a search behind the policy."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest

from rllib_portfolio.backtest.baselines import AllCash, BuyAndHold, EqualWeight
from rllib_portfolio.backtest.engine import BacktestResult, backtest
from rllib_portfolio.backtest.lineup import Lineup, walk_lineup
from rllib_portfolio.backtest.sensitivity import cost_sensitivity, start_sensitivity
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.market import MarketData
from rllib_portfolio.policies.strategy import MarketView
from rllib_portfolio.reporting.inputs import ReportContext
from rllib_portfolio.reporting.report import Report, report_of_walks
from rllib_portfolio.reporting.search_trials import TuningRecord
from rllib_portfolio.statistics.bootstrap import BootstrapPlan
from tests.backtest.hand_made import random_market

DAYS = 6100
WINDOW = (2, DAYS)
SHORT_WINDOW = (DAYS - 300, DAYS)
"""Window for strategies that are back-tested many times; no part of a report needs more days of them."""
EXECUTION = ExecutionConfig(cost_bps=10.0)


@dataclass
class Tilted:
    """Holds more of the assets that rose over the last days, and some cash."""

    name: str
    window_days: int = 40
    cash: float = 0.1

    def decide(self, view: MarketView) -> np.ndarray:
        num_assets = len(view.weights) - 1
        if len(view.past_returns) < 2:
            return np.append(np.zeros(num_assets), 1.0)
        score = np.exp(5.0 * view.past_returns[-self.window_days :].mean(axis=0))
        return np.append((1.0 - self.cash) * score / score.sum(), self.cash)


def long_market() -> MarketData:
    """Four random assets over the business days of 1999 to 2023."""
    market = random_market(DAYS)
    dates = np.busday_offset("1999-12-01", np.arange(DAYS), roll="forward").astype("datetime64[D]")
    notes = ("Four random walks: nothing can be learned here.",)
    return replace(market, dates=dates, notes=notes, windows={"all": WINDOW}, source="random walks", data_hash="0" * 64)


@pytest.fixture(scope="session")
def market() -> MarketData:
    return long_market()


@pytest.fixture(scope="session")
def lineup(market: MarketData) -> Lineup:
    """PPO and DQN, three baselines, the index, a constant mix of each."""
    policies = [Tilted("PPO policy"), Tilted("DQN policy", window_days=5, cash=0.0)]
    return walk_lineup(market, WINDOW, EXECUTION, policies, [EqualWeight(), BuyAndHold(), AllCash()])


@pytest.fixture(scope="session")
def short_lineup(lineup: Lineup) -> Lineup:
    """The last 300 of the days: a report on them takes a second."""
    arrays = ("dates", "returns", "weights", "turnover", "traded", "cost")
    walks = [
        replace(walk, wealth=walk.wealth[-301:], **{name: getattr(walk, name)[-300:] for name in arrays})
        for walk in lineup.results
    ]
    return Lineup(tuple(walks), lineup.failures)


@pytest.fixture(scope="session")
def seed_walks(market: MarketData) -> dict[str, tuple[BacktestResult, ...]]:
    seeds = [Tilted(f"PPO seed {seed}", window_days=30 + seed) for seed in range(4)]
    return {"PPO policy": backtest(market, WINDOW, seeds, EXECUTION)}


@pytest.fixture(scope="session")
def context(market: MarketData, seed_walks: dict[str, tuple[BacktestResult, ...]]) -> ReportContext:
    judged = [Tilted("PPO policy"), EqualWeight()]
    rng = np.random.default_rng(1)
    trials = pd.DataFrame(rng.normal(3e-4, 0.01, (320, 8)), index=pd.bdate_range("2012-01-02", periods=320))
    return ReportContext(
        title="PPO & DQN <walk-forward>",
        market=market,
        window=WINDOW,
        execution=EXECUTION,
        subjects=("PPO policy", "DQN policy"),
        trained_until=np.datetime64("2009-06-30"),
        command="python backtest.py walk-forward --algo ppo",
        cost_curve=cost_sensitivity(market, SHORT_WINDOW, judged, EXECUTION),
        sensitivities={"Later first days": start_sensitivity(market, SHORT_WINDOW, judged, EXECUTION, [0, 21])},
        seed_walks=seed_walks,
        tuning=TuningRecord(num_trials=12, sharpe_variance=0.04, trial_returns=trials),
        validation=seed_walks["PPO policy"][0],
        notes=("A sentence of the caller's own.",),
    )


@pytest.fixture(scope="session")
def whole_report(lineup: Lineup, context: ReportContext) -> Report:
    return report_of_walks(lineup, context=context, plan=BootstrapPlan(num_draws=100))

"""Several policies as one: the mean of their weights."""

from __future__ import annotations

import numpy as np
import pytest

from rllib_portfolio.backtest.baselines import AllCash, BuyAndHold, ConstantMix, EqualWeight
from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.market import MarketData
from rllib_portfolio.policies.ensemble import Ensemble

EXECUTION = ExecutionConfig(cost_bps=0.0)


def test_it_holds_the_mean_of_its_members_weights(tiny_market: MarketData) -> None:
    # (1/3, 1/3, 1/3, 0), all cash and (0.6, 0, 0, 0.4): (0.9333, 0.3333, 0.3333, 1.4) / 3
    mix = ConstantMix(np.array([0.6, 0.0, 0.0, 0.4]))
    ensemble = Ensemble([EqualWeight(), AllCash(), mix], "three")
    (walked,) = backtest(tiny_market, tiny_market.windows["test"], [ensemble], EXECUTION)
    expected = np.array([1 / 3 + 0.6, 1 / 3, 1 / 3, 1.4]) / 3
    np.testing.assert_allclose(walked.weights, np.tile(expected, (14, 1)), rtol=1e-14)
    assert walked.name == "three"


def test_a_member_that_holds_counts_with_the_weights_of_the_ensemble(tiny_market: MarketData) -> None:
    # Day 1: both want 1/N. Day 2: one of them keeps what the others drifted to, the other goes back to 1/N: half way.
    ensemble = Ensemble([EqualWeight(), BuyAndHold()], "both")
    same_close = EXECUTION.model_copy(update={"execution_lag": 0})
    (walked,) = backtest(tiny_market, tiny_market.windows["test"], [ensemble], same_close)
    grown = np.full(3, 1 / 3) * (1.0 + tiny_market.returns[50])
    drifted = grown / grown.sum()
    np.testing.assert_allclose(walked.weights[1, :3], (drifted + 1 / 3) / 2, rtol=1e-14)
    # With a lag the drift of the first day is not known yet: the holder counts with 1/N, too, and so it goes on.
    (lagged,) = backtest(tiny_market, tiny_market.windows["test"], [ensemble], EXECUTION)
    np.testing.assert_allclose(lagged.weights[:, :3], 1 / 3, rtol=1e-14)


@pytest.mark.parametrize("members", [[BuyAndHold()], [BuyAndHold(), BuyAndHold("another")]])
def test_where_all_hold_nothing_is_traded(tiny_market: MarketData, members: list[BuyAndHold]) -> None:
    window = tiny_market.windows["test"]
    held, walked = backtest(tiny_market, window, [BuyAndHold(), Ensemble(members, "all")], EXECUTION)
    np.testing.assert_array_equal(walked.returns, held.returns)
    assert walked.turnover[1:].sum() == 0.0

"""Every argument of the environment changes what it should: none is accepted and then ignored."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest

from rllib_portfolio.config import EnvironmentConfig
from rllib_portfolio.env import PortfolioEnv
from rllib_portfolio.market import MarketData
from tests.env.rollouts import episode
from tests.universes import universe_market

RESAMPLED = {"source": "bootstrap", "num_days": 700}
SHORT_FEATURES = {
    "num_gmm_regimes": 0,
    "num_hmm_regimes": 0,
    "index": False,
    "momentum_days": (),
    "moving_average_days": (),
    "drawdown_days": None,
}


class Change(NamedTuple):
    """Arguments before, arguments after, and the result that must differ: an entry of `results`."""

    changed: str
    after: dict[str, Any]
    before: dict[str, Any] = {}  # noqa: RUF012


LISTED = np.ones((80, 3), dtype=bool)
LISTED[10:, 1] = False
ON_VARIED = {
    "data": replace(
        universe_market(
            80, 3, listed=LISTED, member=LISTED, quoted=LISTED, exit_return=np.full(3, 0.1), is_sold=np.full(3, True)
        ),
        groups=("a", "a", ""),
        dollar_volume=np.full((80, 3), 2e5),
        volatility=np.full((80, 3), 0.02),
    )
}
"""A market with an exit that is a sale, with groups and volumes."""
DISCRETE = {"action_mode": "discrete"}
QUANTILES = {**DISCRETE, "action_table": "quantiles", "action_levels": 1}
CHANGES = {
    "action_features": Change("wealth", {"action_features": ("asset_and_row",)}, QUANTILES),
    "action_levels": Change("wealth", {"action_levels": 3}, DISCRETE),
    "action_mode": Change("action_space", DISCRETE),
    "action_table": Change("wealth", {"action_table": "ladder"}, DISCRETE),
    "cash_rate": Change("wealth", {"cash_rate": 0.5}),
    "cost_bps": Change("wealth", {"cost_bps": 11.0}),
    "data": Change("wealth", {"data": {"source": "kelly", "num_days": 100}}),
    "drawdown_penalty": Change("reward", {"drawdown_penalty": 2.0}, {"reward": "drawdown_penalised"}),
    "episode_days": Change("num_steps", {"episode_days": 7}),
    "execution_lag": Change("observation", {"execution_lag": 0}),
    "exit_cost_bps": Change("wealth", {"exit_cost_bps": 500.0}, ON_VARIED),
    "features": Change(
        "observation",
        {"features": {**SHORT_FEATURES, "rsi_days": None}},
        {"data": RESAMPLED, "features": SHORT_FEATURES},
    ),
    "fund_size": Change("wealth", {"fund_size": 1e6}, ON_VARIED),
    "impact": Change("wealth", {"impact": 0.1}),
    "logit_scale": Change("wealth", {"logit_scale": 5.0}),
    "max_group_weight": Change("wealth", {"max_group_weight": 0.2}, ON_VARIED),
    "max_participation": Change("wealth", {"max_participation": 0.1}, {**ON_VARIED, "fund_size": 1e6}),
    "max_turnover": Change("wealth", {"max_turnover": 0.1}),
    "max_weight": Change("wealth", {"max_weight": 0.3}),
    "min_cash": Change("wealth", {"min_cash": 0.5}),
    "partial_trading": Change("wealth", {"partial_trading": True}),
    "random_start": Change("date", {"random_start": True}),
    "rebalance_days": Change("wealth", {"rebalance_days": 2}),
    "reward": Change("reward", {"reward": "log_return"}),
    "risk_aversion": Change("reward", {"risk_aversion": 2.0}, {"reward": "mean_variance"}),
    "sharpe_decay": Change("reward", {"sharpe_decay": 0.1}, {"reward": "differential_sharpe"}),
    "window": Change("wealth", {"window": "validation"}),
}


def results(market: MarketData, **arguments: Any) -> dict[str, list[Any]]:
    """Return the results of ten days with fixed actions."""
    env = PortfolioEnv(**{"data": market, "random_start": False, "episode_days": 10, **arguments})
    if env.simulation.action_map.space.shape:
        action = np.linspace(-0.1, 0.3, env.action_space.shape[0])
        actions = [action if day % 2 else -action for day in range(10)]
    else:
        actions = [1 + day % 3 for day in range(10)]
    answers = episode(env, actions, seed=3)
    return {
        "action_space": [str(env.action_space)],
        "observation": [answer.observation.tolist() for answer in answers],
        "reward": [answer.reward for answer in answers],
        "wealth": [answer.info["wealth"] for answer in answers],
        "date": [answer.info["date"] for answer in answers],
        "num_steps": [len(answers)],
    }


def argument_names() -> list[str]:
    """Every argument of the environment: its own, and every field of its configuration."""
    own = set(inspect.signature(PortfolioEnv).parameters) - {"settings", "render_mode"}
    return sorted(own | set(EnvironmentConfig.model_fields))


@pytest.mark.parametrize("name", argument_names())
def test_every_argument_changes_some_result(tiny_market: MarketData, name: str) -> None:
    assert name in CHANGES, f"{name} is new: say what it changes"
    change = CHANGES[name]
    assert set(change.after) == {name}
    before = results(tiny_market, **change.before)
    after = results(tiny_market, **{**change.before, **change.after})
    assert before[change.changed] != after[change.changed]
    assert before == results(tiny_market, **change.before)  # the difference is the argument's, not chance


def test_no_case_is_left_of_an_argument_that_is_gone() -> None:
    assert set(CHANGES) == set(argument_names())


@pytest.mark.parametrize("asset", [0, 1, 2])
def test_each_asset_pays_its_own_cost(tiny_market: MarketData, asset: int) -> None:
    # All of wealth into one asset of the test window, at 40 bp for it and 10 bp for the others.
    costs = [10.0, 10.0, 10.0]
    costs[asset] = 40.0
    env = PortfolioEnv(tiny_market, "test", action_mode="discrete", cost_bps=costs)
    for other, name in enumerate(tiny_market.assets):
        env.reset()
        *_, info = env.step(env.action_names.index(f"100% {name}"))
        assert info["cost"] == pytest.approx(0.004 if other == asset else 0.001, rel=1e-14)

"""What actions that were not taken would have earned: exactly what the environment pays for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from ray.rllib.core.columns import Columns

from rllib_portfolio.algorithms import dqn
from rllib_portfolio.algorithms.counterfactual import COLUMNS, PREFIX, Counterfactuals, state_columns
from rllib_portfolio.env import PortfolioEnv, PortfolioVectorEnv
from rllib_portfolio.market import MarketData
from tests.algorithms.dqn_runs import run_config

NUM_ENVS = 12
ENVIRONMENTS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "decided and traded at one close": {"execution_lag": 0},
    "three days at a time": {"rebalance_days": 3},
    "a reward with a memory": {"reward": "differential_sharpe"},
    "a reward of drawdowns": {"reward": "drawdown_penalised"},
    "limits": {"max_turnover": 0.3, "min_cash": 0.1},
}


def environment(settings: dict[str, Any]) -> dict[str, Any]:
    return {"action_mode": "discrete", "action_table": "ladder", "episode_days": 9, "cost_bps": 20.0, **settings}


def walked(
    market: MarketData, settings: dict[str, Any], num_steps: int = 4
) -> tuple[dict[str, NDArray[Any]], list[NDArray[Any]]]:
    """The last of some steps at random as a batch with its `COLUMNS`, and all actions that led to it."""
    env = PortfolioVectorEnv(NUM_ENVS, market, **settings)
    observations, _ = env.reset(seed=5)
    generator = np.random.default_rng(0)
    taken: list[NDArray[Any]] = []
    for _ in range(num_steps):
        before, state = observations, state_columns(env.simulation)
        taken.append(generator.integers(env.single_action_space.n, size=NUM_ENVS))
        observations, rewards, *_ = env.step(taken[-1])
    return {
        Columns.OBS: before,
        Columns.ACTIONS: taken[-1].astype(np.int32),
        Columns.REWARDS: rewards.astype(np.float32),
        Columns.NEXT_OBS: observations,
        "weights": generator.random(NUM_ENVS, dtype=np.float32),
        **state,
    }, taken


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_action_earns_what_an_environment_that_takes_it_pays(name: str, tiny_market: MarketData) -> None:
    settings = environment(ENVIRONMENTS[name])
    drawn, taken = walked(tiny_market, settings)
    num_actions = PortfolioEnv(tiny_market, **settings).action_space.n
    every = Counterfactuals.of({"data": tiny_market, **settings}, NUM_ENVS * num_actions, num_actions)
    assert every.num_days == NUM_ENVS
    batch = every.batch(drawn, np.random.default_rng(1))
    for index in range(NUM_ENVS):  # the same days again, and another action on the last of them
        for row in range(index * num_actions, (index + 1) * num_actions):
            env = PortfolioEnv(tiny_market, **settings)
            env.reset(seed=5 + index)
            for actions in taken[:-1]:
                observation = env.step(actions[index])[0]
            np.testing.assert_array_equal(batch[Columns.OBS][row], observation)
            observation, reward, *_ = env.step(batch[Columns.ACTIONS][row])
            assert batch[Columns.REWARDS][row] == np.float32(reward)
            np.testing.assert_array_equal(batch[Columns.NEXT_OBS][row], observation)


def test_each_day_has_the_action_taken_hold_and_others_once(tiny_market: MarketData) -> None:
    settings = environment({})
    drawn, _ = walked(tiny_market, settings)
    hold = PortfolioEnv(tiny_market, **settings).action_space.n - 1
    several = Counterfactuals.of({"data": tiny_market, **settings}, NUM_ENVS * 4, 4)
    seen = set()
    for seed in range(20):
        batch = several.batch(drawn, np.random.default_rng(seed))
        actions = batch[Columns.ACTIONS].reshape(NUM_ENVS, 4)
        np.testing.assert_array_equal(actions[:, 0], drawn[Columns.ACTIONS])
        assert (actions == hold).any(axis=1).all()
        assert all(len(set(row)) == 4 for row in actions.tolist())
        seen |= set(actions.ravel().tolist())
        np.testing.assert_array_equal(batch["weights"].reshape(NUM_ENVS, 4), drawn["weights"][:, None].repeat(4, 1))
        np.testing.assert_array_equal(batch[Columns.REWARDS].reshape(NUM_ENVS, 4)[:, 0], drawn[Columns.REWARDS])
        assert not any(name.startswith(PREFIX) for name in batch)
    assert seen == set(range(hold + 1))


def test_a_batch_may_end_within_a_day_and_errors_are_averaged_over_its_actions(tiny_market: MarketData) -> None:
    five = Counterfactuals.of({"data": tiny_market, **environment({})}, 8, 3)
    assert five.num_days == 3
    np.testing.assert_allclose(five.by_day(np.array([1.0, -2.0, 3.0, 4.0, 4.0, 4.0, -1.0, 2.0])), [2.0, 4.0, 1.5])


def test_no_more_actions_than_there_are(tiny_market: MarketData) -> None:
    settings = environment({})
    num_actions = PortfolioEnv(tiny_market, **settings).action_space.n
    all_of_them = Counterfactuals.of({"data": tiny_market, **settings}, 3 * num_actions, 1000)
    assert all_of_them.num_days == 3


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 8),
        ({"training.counterfactual_actions": 3}, 3),
        ({"training.n_step": 2}, 0),
        ({"resources.env_runner": "stock"}, 0),
        ({"market.observation_filter": "running"}, 0),
    ],
)
def test_a_run_has_them_where_states_are_known(settings: dict[str, Any], expected: int) -> None:
    built = dqn.algorithm_config(run_config(settings), Path("market.npz"))
    assert built.counterfactual_actions == expected
    assert built.replay_buffer_config["extra_columns"] == (COLUMNS if expected else ())

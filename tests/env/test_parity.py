"""The scalar and the vector environment are one: equal to the last bit, whatever is asked of them."""

from __future__ import annotations

import pickle
from itertools import product
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rllib_portfolio import ENV_ID
from rllib_portfolio.env import PortfolioEnv, PortfolioVectorEnv
from rllib_portfolio.env.rewards import BUILT_IN
from rllib_portfolio.market import MarketData
from tests.env.rollouts import Step, assert_same_walk, of_environment, sampled_actions, walk, walk_vector

NUM_ENVS = 5
SEED = 40
EVERYTHING = {
    "cost_bps": (5.0, 10.0, 80.0),
    "impact": 0.5,
    "max_weight": 0.6,
    "max_turnover": 0.5,
    "min_cash": 0.05,
    "episode_days": 10,
}
"""Every cost and every limit at once, and episodes short enough for several of them."""
SETTINGS = [
    pytest.param({"action_mode": mode, "reward": reward, "rebalance_days": days, "execution_lag": lag}, id=identity)
    for mode, reward, days, lag in product(
        ("continuous", "discrete"), (*BUILT_IN, "tests.env.user_rewards:everything"), (1, 3), (0, 1)
    )
    for identity in [f"{mode}-{reward.rpartition(':')[-1]}-{days}-{lag}"]
] + [
    pytest.param({"partial_trading": True, "rebalance_days": 1 + 2 * lag, "execution_lag": lag}, id=f"partial-{lag}")
    for lag in (0, 1)
]


def assert_parity(data: str | MarketData, num_steps: int, **settings: Any) -> None:
    vector = PortfolioVectorEnv(NUM_ENVS, data, **settings)
    actions = sampled_actions(vector.action_space, num_steps)
    steps = walk_vector(vector, actions, SEED)
    num_ends = 0
    for index in range(NUM_ENVS):
        scalar = walk(PortfolioEnv(data, **settings), [action[index] for action in actions], seed=SEED + index)
        of_vector = of_environment(steps, index)
        assert_same_walk(
            [step._replace(reward=np.float64(step.reward), terminated=np.False_) for step in scalar],
            [step._replace(truncated=bool(step.truncated)) for step in of_vector],
        )
        num_ends += sum(step.truncated for step in scalar)
    assert num_ends >= 2 * NUM_ENVS  # autoresets were part of it


@pytest.mark.parametrize("settings", SETTINGS)
def test_scalar_and_vector_agree_to_the_bit_over_several_episodes(
    tiny_market: MarketData, settings: dict[str, Any]
) -> None:
    assert_parity(tiny_market, 40, **EVERYTHING, **settings)


@pytest.mark.parametrize("settings", [{}, {"action_mode": "discrete"}, {"partial_trading": True}])
def test_scalar_and_vector_agree_to_the_bit_on_the_bundled_market(settings: dict[str, Any]) -> None:
    # 20 assets: long enough rows for numpy to sum them in another order, if their layout were another one.
    assert_parity("sp500", 60, impact=0.5, max_turnover=0.5, episode_days=10, **settings)


@pytest.mark.parametrize("mode", ["continuous", "discrete"])
@pytest.mark.parametrize("rebalance_days", [1, 3])
def test_the_vector_environment_equals_gymnasiums_own_loop_over_scalar_environments(
    tiny_market: MarketData, mode: str, rebalance_days: int
) -> None:
    arguments = {"data": tiny_market, "action_mode": mode, "rebalance_days": rebalance_days, **EVERYTHING}
    make = f"rllib_portfolio:{ENV_ID}"
    ours = gym.make_vec(make, NUM_ENVS, "vector_entry_point", **arguments)
    loop = gym.make_vec(make, NUM_ENVS, "sync", **arguments)
    assert ours.single_observation_space == loop.single_observation_space
    assert ours.single_action_space == loop.single_action_space
    actions = sampled_actions(ours.action_space, 40)
    one, other = (walk_vector(env, actions, SEED) for env in (ours, loop))
    assert sum(step.truncated.sum() for step in one) >= 2 * NUM_ENVS
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine.observation, theirs.observation, strict=True)
        np.testing.assert_array_equal(mine.reward, theirs.reward)
        np.testing.assert_array_equal(mine.terminated, theirs.terminated)
        np.testing.assert_array_equal(mine.truncated, theirs.truncated)
        assert mine.info.keys() == theirs.info.keys()
        for name in mine.info:
            np.testing.assert_array_equal(mine.info[name], theirs.info[name], name)


# ---------------------------------------------------------------- state


@pytest.mark.parametrize("num_steps", [0, 4, 10, 11, 17])
@pytest.mark.parametrize("reward", BUILT_IN)
def test_a_restored_vector_environment_goes_on_to_the_bit(tiny_market: MarketData, reward: str, num_steps: int) -> None:
    # Episodes have 10 days: 10 saves at their end, 11 right after the reset.
    settings = {**EVERYTHING, "reward": reward}
    env, fresh = (PortfolioVectorEnv(NUM_ENVS, tiny_market, **settings) for _ in range(2))
    actions = sampled_actions(env.action_space, num_steps + 30)
    walk_vector(env, actions[:num_steps], SEED)
    state = pickle.dumps(env.get_state())
    fresh.set_state(pickle.loads(state))
    np.testing.assert_array_equal(env.simulation.observe(env.state), fresh.simulation.observe(fresh.state))
    for action in actions[num_steps:]:
        assert_same_walk([Step(*env.step(action))], [Step(*fresh.step(action))])


def test_a_saved_state_is_a_copy_that_can_be_restored_twice(tiny_market: MarketData) -> None:
    env = PortfolioVectorEnv(NUM_ENVS, tiny_market, **EVERYTHING)
    actions = sampled_actions(env.action_space, 30)
    walk_vector(env, actions[:8], SEED)
    state = env.get_state()
    walks = []
    for _ in range(2):
        env.set_state(state)
        walks.append([Step(*env.step(action)) for action in actions[8:]])
    assert_same_walk(*walks)


def test_a_restored_environment_walks_another_path_than_a_fresh_one(tiny_market: MarketData) -> None:
    env, fresh = (PortfolioVectorEnv(NUM_ENVS, tiny_market, **EVERYTHING) for _ in range(2))
    actions = sampled_actions(env.action_space, 30)
    walk_vector(env, actions[:8], SEED)
    fresh.reset(seed=SEED + 1)
    assert not np.array_equal(env.step(actions[8])[1], fresh.step(actions[8])[1])

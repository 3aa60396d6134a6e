"""Tests that counterfactual actions earn exactly what the environment pays for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from ray.rllib.core.columns import Columns

from rllib_portfolio.algorithms.dqn import algorithm as dqn
from rllib_portfolio.algorithms.learning.referenced_features import ReferencedFeatures
from rllib_portfolio.algorithms.sampling.counterfactual import COLUMNS, PREFIX, Counterfactuals, state_columns
from rllib_portfolio.env import PortfolioEnv, PortfolioVectorEnv
from rllib_portfolio.env.transition import State
from rllib_portfolio.market import MarketData
from tests.algorithms.dqn.dqn_runs import MARKET_PATH, run_config

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
        before, state = observations, state_columns(env.state)
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


def counterfactuals(
    market: MarketData, settings: dict[str, Any], num_actions: int, other_portfolios: bool
) -> Counterfactuals:
    return Counterfactuals.of({"data": market, **settings}, num_actions, other_portfolios)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_action_earns_what_an_environment_that_takes_it_pays(name: str, tiny_market: MarketData) -> None:
    settings = environment(ENVIRONMENTS[name])
    drawn, taken = walked(tiny_market, settings)
    num_actions = PortfolioEnv(tiny_market, **settings).action_space.n
    batch = counterfactuals(tiny_market, settings, 1000, False).batch(drawn, np.random.default_rng(1))
    np.testing.assert_array_equal(batch[Columns.OBS], drawn[Columns.OBS])
    np.testing.assert_array_equal(batch[Columns.ACTIONS], [range(num_actions)] * NUM_ENVS)
    for index in range(NUM_ENVS):  # the same days again, and another action on the last of them
        for action in range(num_actions):
            env = PortfolioEnv(tiny_market, **settings)
            env.reset(seed=5 + index)
            for actions in taken[:-1]:
                env.step(actions[index])
            observation, reward, *_ = env.step(action)
            assert batch[Columns.REWARDS][index, action] == np.float32(reward)
            np.testing.assert_array_equal(batch[Columns.NEXT_OBS][index, action], observation)


@pytest.mark.parametrize("other_portfolios", [False, True])
@pytest.mark.parametrize("lag", [0, 1])
def test_observations_by_reference_lead_to_references(
    other_portfolios: bool, lag: int, tiny_market: MarketData
) -> None:
    settings = environment({"execution_lag": lag})
    drawn, _ = walked(tiny_market, settings)
    simulation = PortfolioVectorEnv(1, tiny_market, **settings).simulation
    state = State(*(drawn[name] for name in COLUMNS))
    several = counterfactuals(tiny_market, settings, 4, other_portfolios)
    whole = several.batch(drawn, np.random.default_rng(0))
    ours = several.batch({**drawn, Columns.OBS: simulation.refer(state)}, np.random.default_rng(0))
    features = ReferencedFeatures(simulation.layout, "cpu")
    for name, values in whole.items():
        mine = ours[name]
        if name in (Columns.OBS, Columns.NEXT_OBS):
            assert mine.shape[-1] == tiny_market.num_assets + 2
            mine = features.observations(torch.from_numpy(mine)).numpy()
        np.testing.assert_array_equal(mine, values, err_msg=name)


@pytest.mark.parametrize("other_portfolios", [False, True])
def test_some_actions_are_the_one_taken_hold_and_others_once(other_portfolios: bool, tiny_market: MarketData) -> None:
    settings = environment({})
    drawn, _ = walked(tiny_market, settings)
    hold = PortfolioEnv(tiny_market, **settings).action_space.n - 1
    several = counterfactuals(tiny_market, settings, 4, other_portfolios)
    seen = set()
    for seed in range(20):
        batch = several.batch(drawn, np.random.default_rng(seed))
        actions, rewards = batch[Columns.ACTIONS], batch[Columns.REWARDS]
        assert actions.shape == rewards.shape == batch[Columns.NEXT_OBS].shape[:2] == (NUM_ENVS, 4)
        np.testing.assert_array_equal(actions[:, 0], drawn[Columns.ACTIONS])
        assert (actions == hold).any(axis=1).all()
        assert all(len(set(row)) == 4 for row in actions.tolist())
        seen |= set(actions.ravel().tolist())
        np.testing.assert_array_equal(batch["weights"], drawn["weights"])
        if not other_portfolios:
            np.testing.assert_array_equal(rewards[:, 0], drawn[Columns.REWARDS])
        assert not any(name.startswith(PREFIX) for name in batch)
    assert seen == set(range(hold + 1))


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_half_of_the_days_start_from_what_another_action_left(name: str, tiny_market: MarketData) -> None:
    settings = environment(ENVIRONMENTS[name])
    drawn, taken = walked(tiny_market, settings, num_steps=2)
    num_actions = PortfolioEnv(tiny_market, **settings).action_space.n
    batch = counterfactuals(tiny_market, settings, 1000, True).batch(drawn, np.random.default_rng(1))

    def outcomes(index: int, action: int) -> Iterator[tuple[NDArray[Any], np.float32, NDArray[Any]]]:
        """Yield the observations and the reward of environments that took each possible action before this one."""
        for another in range(num_actions):
            env = PortfolioEnv(tiny_market, **settings)
            env.reset(seed=5 + index)
            for actions in taken[:-1]:
                env.step(actions[index])
            before = env.step(another)[0]
            observation, reward, *_ = env.step(action)
            yield before, np.float32(reward), observation

    elsewhere = (batch[Columns.OBS] != drawn[Columns.OBS]).any(axis=1)
    assert 2 < elsewhere.sum() < NUM_ENVS - 2
    for index in np.flatnonzero(elsewhere).tolist():
        shown = batch[Columns.OBS][index]
        for action in range(num_actions):
            paid, then = (batch[column][index, action] for column in (Columns.REWARDS, Columns.NEXT_OBS))
            assert any(
                (before == shown).all() and reward == paid and (after == then).all()
                for before, reward, after in outcomes(index, action)
            )


def test_the_last_step_of_an_episode_has_nowhere_else_to_start_from(tiny_market: MarketData) -> None:
    settings = environment({})
    drawn, _ = walked(tiny_market, settings, num_steps=settings["episode_days"])
    batch = counterfactuals(tiny_market, settings, 4, True).batch(drawn, np.random.default_rng(0))
    np.testing.assert_array_equal(batch[Columns.OBS], drawn[Columns.OBS])
    assert (batch[Columns.NEXT_OBS] != batch[Columns.OBS][:, None]).any(axis=-1).all()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 64),
        ({"training.counterfactual_actions": 3}, 3),
        ({"training.n_step": 2}, 0),
        ({"resources.env_runner": "stock"}, 0),
        ({"resources.learner": "stock"}, 0),
        ({"market.observation_filter": "running"}, 0),
    ],
)
def test_a_run_has_them_where_states_are_known(
    settings: dict[str, Any], expected: int, caplog: pytest.LogCaptureFixture
) -> None:
    built = dqn.algorithm_config(run_config(settings), MARKET_PATH)
    assert built.counterfactual_actions == expected
    told = "A gradient step learns only from the 8 taken actions of a batch."
    assert [told in text for text in caplog.messages] == [True] * (not expected)
    assert built.counterfactual_portfolios
    assert built.replay_buffer_config["extra_columns"] == (COLUMNS if expected else ())

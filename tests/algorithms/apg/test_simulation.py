"""The differentiable simulation against the environment's own, and its gradients against differences."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rllib_portfolio.algorithms.apg.simulation import DifferentiableSimulation
from rllib_portfolio.env.simulation import Simulation
from rllib_portfolio.env.transition import State
from rllib_portfolio.errors import ConfigError
from rllib_portfolio.market import MarketData
from tests.env.markets import market_of
from tests.universes import universe_market

NUM_ASSETS, HORIZON = 5, 12
REWARDS = (
    "log_return",
    "excess_log_return",
    "active_log_return",
    "differential_sharpe",
    "differential_information",
    "drawdown_penalised",
    "mean_variance",
    "active_mean_variance",
    "tests.env.user_rewards:over_cash",
)
TERMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "costs per asset": {"cost_bps": (0.0, 5.0, 10.0, 20.0, 400.0)},
    "impact": {"impact": 3.0},
    "impact of volumes": {"impact": 1.0, "fund_size": 1e6, "max_participation": 0.2},
    "no lag": {"execution_lag": 0},
    "weekly": {"rebalance_days": 5},
    "limits": {"max_weight": 0.3, "min_cash": 0.15, "max_turnover": 0.2},
    "groups": {"max_group_weight": 0.4},
    "exit costs": {"exit_cost_bps": 300.0},
    "short episodes": {"episode_days": 7},
    "partial trading": {"partial_trading": True},
    "partial trading without a lag": {"partial_trading": True, "execution_lag": 0, "logit_scale": 2.0},
}


def complete_market(seed: int = 3) -> MarketData:
    rng = np.random.default_rng(seed)
    market = market_of(rng.normal(5e-4, 0.02, (120, NUM_ASSETS)), 1e-4, rng.uniform(0.01, 0.03, (120, NUM_ASSETS)))
    features = rng.normal(size=(120, NUM_ASSETS, 2)).astype(np.float32)
    windows = {"all": (2, 120)}
    return with_sidecars(replace(market, asset_features=features, asset_feature_names=("x", "y"), windows=windows))


def with_sidecars(market: MarketData) -> MarketData:
    volume = np.random.default_rng(4).uniform(1e6, 1e7, market.returns.shape)
    return replace(market, groups=("a", "b", "a", "", "b"), dollar_volume=volume)


def simulation_of(market: MarketData, **settings: Any) -> DifferentiableSimulation:
    given = {"data": market, "window": "all", "random_start": True, "episode_days": 30, "cost_bps": 25.0, **settings}
    return DifferentiableSimulation.of(given, "cpu", torch.float64)


def starts(simulation: Simulation, num: int, seed: int = 0) -> State:
    """States with weights that differ, as known and as held, after a random trade."""
    rng = np.random.default_rng(seed)
    state = simulation.fresh([rng] * num)
    if simulation.config.execution_lag:
        state = state._replace(row=np.minimum(state.row, state.end - 1))
    actions = rng.uniform(-1.0, 1.0, (num, *simulation.action_space.shape)).astype(np.float32)
    after, _, _ = simulation.step(state, actions)
    return after


def linear_policy(num_observed: int, num_actions: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((num_observed, num_actions), generator=generator, dtype=torch.float64) * 0.3


def policy_for(simulation: DifferentiableSimulation) -> Tensor:
    return linear_policy(len(simulation.simulation.layout.names), simulation.simulation.action_space.shape[0])


def decide(weights: Tensor, observations: Tensor) -> Tensor:
    return torch.tanh(observations.double() @ weights)


def walked(simulation: Simulation, state: State, weights: Tensor) -> tuple[np.ndarray, State]:
    """The rewards of the numpy simulation under the same policy, [H, B], 0 after the end of an episode."""
    rewards = []
    for _ in range(HORIZON):
        actions = decide(weights, torch.from_numpy(simulation.observe(state))).numpy()
        walks = state.row < state.end
        state, reward, _ = simulation.step(state, actions)
        rewards.append(reward * walks)
    return np.array(rewards), state


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("has_universe", [False, True], ids=["complete", "universe"])
def test_the_tensors_of_a_walk_are_the_arrays_of_the_environment(terms: str, has_universe: bool) -> None:
    market = with_sidecars(universe_market(num_assets=NUM_ASSETS)) if has_universe else complete_market()
    simulation = simulation_of(market, **TERMS[terms])
    compare(simulation)


@pytest.mark.parametrize("reward", REWARDS)
@pytest.mark.parametrize("has_universe", [False, True], ids=["complete", "universe"])
def test_every_reward_is_the_same_on_tensors(reward: str, has_universe: bool) -> None:
    market = universe_market(num_assets=NUM_ASSETS) if has_universe else complete_market()
    compare(simulation_of(market, reward=reward, episode_days=9))


def compare(simulation: DifferentiableSimulation) -> None:
    state = starts(simulation.simulation, num=24)
    weights = policy_for(simulation)
    rollout = simulation.rollout(lambda seen: decide(weights, seen), simulation.tensors(state), HORIZON)
    expected, final = walked(simulation.simulation, state, weights)
    # Observations are single precision in both, so that weights agree to its rounding within the policy alone.
    np.testing.assert_allclose(
        rollout.rewards[:, 0].numpy(), expected, rtol=0.0, atol=1e-12 + 1e-12 * abs(expected).max()
    )
    for name, tensor, array in zip(State._fields, rollout.final, final, strict=True):
        if name != "steps":
            np.testing.assert_allclose(tensor.numpy(), array, rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("has_universe", [False, True], ids=["complete", "universe"])
def test_gradients_are_those_of_central_differences(terms: str, has_universe: bool) -> None:
    market = with_sidecars(universe_market(num_assets=NUM_ASSETS)) if has_universe else complete_market()
    simulation = simulation_of(market, **TERMS[terms])
    check_gradient(simulation)


@pytest.mark.parametrize("reward", REWARDS)
def test_gradients_of_every_reward_are_those_of_central_differences(reward: str) -> None:
    check_gradient(simulation_of(complete_market(), reward=reward))


def check_gradient(simulation: DifferentiableSimulation) -> None:
    """Differences of a policy in double precision, also of what it observes: rounding would drown them otherwise."""
    simulation = replace(simulation, features=_Double(simulation.features))
    state = simulation.tensors(starts(simulation.simulation, num=8))
    weights = policy_for(simulation).requires_grad_()

    def objective(policy: Tensor) -> Tensor:
        return simulation.rollout(lambda seen: decide(policy, seen), state, HORIZON).rewards.sum()

    objective(weights).backward()
    assert weights.grad is not None
    rng = np.random.default_rng(1)
    for _ in range(6):
        direction = torch.from_numpy(rng.normal(size=weights.shape))
        direction /= direction.norm()
        step = 1e-6
        with torch.no_grad():
            difference = (objective(weights + step * direction) - objective(weights - step * direction)) / (2 * step)
        slope = (weights.grad * direction).sum()
        assert abs(slope - difference) <= 1e-6 + 1e-5 * weights.grad.norm(), (slope, difference)


class _Double:
    """Features in double precision, so that observations are."""

    def __init__(self, features: Any) -> None:
        self._features = features

    def rows(self, rows: Tensor) -> Tensor:
        return self._features.rows(rows).double()


def test_the_gradient_of_a_held_weight_on_a_day_worked_by_hand() -> None:
    """One asset, held 0.25 and drifted; the target is 0.5, the cost 1 %, the return 10 %.

    V = (1 - c (0.5 - w')) (1 + 0.5 r), so that d log V / d w' = c / (1 - c (0.5 - w')).
    """
    market = market_of([[0.0], [0.0], [0.1], [0.0]])
    simulation = simulation_of(market, execution_lag=0, cost_bps=100.0, reward="log_return", episode_days=None)
    held = torch.tensor(0.25, dtype=torch.float64, requires_grad=True)
    state = simulation.tensors(simulation.simulation.fresh([np.random.default_rng(0)]))
    weights = torch.stack([held, 1.0 - held])[None]
    state = state._replace(row=torch.tensor([1]), end=torch.tensor([2]), weights=weights, held=weights)
    rollout = simulation.rollout(lambda seen: torch.zeros((1, 2), dtype=torch.float64), state, 1)
    reward = rollout.rewards.sum()
    reward.backward()
    cost = Fraction(1, 100) * (Fraction(1, 2) - Fraction(1, 4))
    growth = (1 - cost) * (1 + Fraction(1, 2) * Fraction(1, 10))
    assert reward.item() == pytest.approx(np.log(float(growth)), abs=1e-15)
    assert held.grad is not None
    assert held.grad.item() == pytest.approx(float(Fraction(1, 100) / (1 - cost)), abs=1e-15)


def test_holdings_carry_gradients_to_earlier_decisions_unless_they_are_stopped() -> None:
    """A policy that repeats what it holds gains from the first day's decision on every later day."""
    simulation = simulation_of(complete_market(), execution_lag=0, cost_bps=0.0, reward="log_return")
    state = simulation.tensors(starts(simulation.simulation, num=4))
    tilt = torch.zeros((4, NUM_ASSETS + 1), dtype=torch.float64, requires_grad=True)

    def gradient(through_holdings: bool) -> Tensor:
        calls = []

        def repeat(observations: Tensor) -> Tensor:
            calls.append(None)
            held = observations[..., -NUM_ASSETS - 1 :].double().clamp(min=1e-3).log() / 10.0
            return held + (tilt if len(calls) == 1 else 0.0)

        tilt.grad = None
        rollout = simulation.rollout(repeat, state, HORIZON, through_holdings=through_holdings)
        rollout.rewards[1:].sum().backward()
        assert tilt.grad is not None
        return tilt.grad.clone()

    assert gradient(through_holdings=True).abs().amax(-1).min() > 1e-5
    # Without costs only the observations link one day with the next.
    assert gradient(through_holdings=False).abs().max() < 1e-9


@pytest.mark.parametrize("reward", ["in_numpy", "sign"])
def test_a_reward_that_cannot_be_differentiated_is_refused(reward: str) -> None:
    simulation = simulation_of(complete_market(), reward=f"tests.env.user_rewards:{reward}")
    with pytest.raises(ConfigError, match=r"environment\.reward must be differentiable and accept torch tensors"):
        simulation.require_differentiable_reward()


@pytest.mark.parametrize("reward", REWARDS)
def test_a_reward_that_can_be_differentiated_is_accepted(reward: str) -> None:
    simulation_of(complete_market(), reward=reward).require_differentiable_reward()


def test_an_action_beyond_its_bounds_trades_as_if_clipped_and_can_come_back() -> None:
    simulation = simulation_of(complete_market())
    state = simulation.tensors(starts(simulation.simulation, num=4))
    actions = torch.full((4, NUM_ASSETS + 1), 1.5, dtype=torch.float64)
    actions[..., 0] = -3.0
    beyond = actions.clone().requires_grad_()
    rollout = simulation.rollout(lambda seen: beyond, state, 1)
    clipped = simulation.rollout(lambda seen: actions.clamp(-1.0, 1.0), state, 1)
    assert torch.equal(rollout.rewards.detach(), clipped.rewards)
    rollout.rewards.sum().backward()
    assert beyond.grad is not None
    assert (beyond.grad.abs() > 0.0).all()

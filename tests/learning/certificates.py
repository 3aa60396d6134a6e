"""Markets whose optimum is known, and how close a trained policy comes to it.

Growth is computed exactly from the probabilities at every weight vector that the policy chooses; a simulated path only
decides which states it visits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from rllib_portfolio.algorithms import ppo
from rllib_portfolio.algorithms.policy import PortfolioPolicy
from rllib_portfolio.config import RunConfig
from rllib_portfolio.env import PortfolioVectorEnv
from rllib_portfolio.market import MarketData, kelly_market, leaked, regime_market

FloatArray = NDArray[np.floating[Any]]
Lottery = tuple[FloatArray, FloatArray]
"""Risky returns of K outcomes, [K, N], and their probabilities, [K]."""

FREE_TRADING = {"execution_lag": 0, "cost_bps": 0.0}


@dataclass(frozen=True)
class Certificate:
    """A market with a known optimum.

    Attributes:
        market: Its prices, drawn from a seed.
        lottery: The next day's outcomes, as known to whoever sees one observation [D].
        states: Observations that stand for all states that the lottery depends on, with their frequencies.
    """

    market: Callable[[int], MarketData]
    lottery: Callable[[FloatArray], Lottery]
    states: tuple[tuple[FloatArray, float], ...]

    def optimal_growth(self) -> float:
        """Growth a day of the best weights in each state."""
        return sum(frequency * best_growth(self.lottery(state)) for state, frequency in self.states)

    def uniform_growth(self) -> float:
        """Growth a day of the uniform portfolio over the N + 1 assets, where a fresh policy starts."""
        total = 0.0
        for state, frequency in self.states:
            returns, probabilities = self.lottery(state)
            num_assets = returns.shape[1]
            uniform = np.full((1, num_assets + 1), 1.0 / (num_assets + 1))
            total += frequency * float(growth(uniform, (returns, probabilities))[0])
        return total

    def policy_growth(self, policy: PortfolioPolicy, seed: int, num_envs: int = 32, days: int = 252) -> float:
        """Growth a day of a policy, over the states that it visits on fresh paths."""
        env = PortfolioVectorEnv(num_envs, self.market(seed + 1000), "all", random_start=True, **FREE_TRADING)
        observation, _ = env.reset(seed=seed)
        growths = []
        for _ in range(days - 1):
            weights = policy(observation)
            growths += [float(growth(w[None], self.lottery(o))[0]) for w, o in zip(weights, observation, strict=True)]
            observation, *_ = env.step(np.log(np.maximum(weights, 1e-9)) / -math.log(1e-9))
        return float(np.mean(growths))


def growth(weights: FloatArray, lottery: Lottery) -> FloatArray:
    """E log(1 + w'r), [B], of weights [B, N+1], cash last and earning nothing."""
    returns, probabilities = lottery
    return np.log1p(weights[:, :-1] @ returns.T) @ probabilities


def best_growth(lottery: Lottery) -> float:
    """The largest growth on the simplex."""
    num_assets = lottery[0].shape[1]
    result = minimize(
        lambda risky: -float(growth(np.append(risky, 0.0)[None], lottery)[0]),
        np.full(num_assets, 0.5 / num_assets),
        method="SLSQP",
        bounds=[(0.0, 1.0)] * num_assets,
        constraints={"type": "ineq", "fun": lambda risky: 1.0 - risky.sum()},
        options={"ftol": 1e-14},
    )
    return -float(result.fun)


def kelly(move: float, probability: float) -> Certificate:
    """One asset that gains or loses `move`; the optimum is (2 p - 1) / move (Kelly 1956)."""
    lottery = (np.array([[move], [-move]]), np.array([probability, 1.0 - probability]))
    return Certificate(
        market=lambda seed: kelly_market(up=move, down=move, probability=probability, num_days=100_000, seed=seed),
        lottery=lambda observation: lottery,
        states=((np.zeros(0), 1.0),),
    )


def regimes(move: float = 0.2, odds: float = 0.58) -> Certificate:
    """Two assets; the observable regime says which of them has the odds on its side."""
    table = ((odds, 1.0 - odds), (1.0 - odds, odds))

    def lottery(observation: FloatArray) -> Lottery:
        chances = table[int(np.argmax(observation[:2]))]
        outcomes = list(product((True, False), repeat=2))
        probabilities = [
            math.prod(p if up else 1.0 - p for p, up in zip(chances, ups, strict=True)) for ups in outcomes
        ]
        return np.where(outcomes, move, -move), np.array(probabilities)

    return Certificate(
        market=lambda seed: regime_market(probability=table, up=move, down=move, num_days=100_000, seed=seed),
        lottery=lottery,
        states=((np.array([1.0, 0.0]), 0.5), (np.array([0.0, 1.0]), 0.5)),
    )


def oracle(move: float = 0.02, probability: float = 0.5) -> Certificate:
    """The next day's return stands in the observation: all in before a gain, all out before a loss."""
    return Certificate(
        market=lambda seed: leaked(
            kelly_market(up=move, down=move, probability=probability, num_days=100_000, seed=seed)
        ),
        lottery=lambda observation: (np.array([[math.copysign(move, observation[0])]]), np.ones(1)),
        states=((np.array([1.0]), probability), (np.array([-1.0]), 1.0 - probability)),
    )


def trained_policy(
    market: MarketData, folder: Path, seed: int, total_timesteps: int, **sections: Any
) -> PortfolioPolicy:
    """The policy of a PPO run with the defaults, and `sections` of the configuration on top."""
    environment = FREE_TRADING | sections.pop("environment", {})
    config = RunConfig(seed=seed, environment=environment, schedule={"total_timesteps": total_timesteps}, **sections)
    path = folder / f"market_{seed}.npz"
    market.save(path)
    algorithm = ppo.build(config, path)
    try:
        steps = 0
        while steps < total_timesteps:
            steps = int(algorithm.train()["num_env_steps_sampled_lifetime"])
        return ppo.current_policy(algorithm, config, market)
    finally:
        algorithm.stop()

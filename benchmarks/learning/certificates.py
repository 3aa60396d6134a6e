"""Markets whose optimum is known, and how close a trained policy comes to it.

Growth is computed exactly from the probabilities at every weight vector that the policy chooses; a simulated path only
decides which states it visits, and the optimum is that of the same states.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from rllib_portfolio.algorithms.policy import PortfolioPolicy, current_policy
from rllib_portfolio.config import RUN_CONFIGS, RunConfig
from rllib_portfolio.env import PortfolioVectorEnv
from rllib_portfolio.market import MarketData, kelly_market, leaked, regime_market
from rllib_portfolio.training import ALGORITHMS

FloatArray = NDArray[np.floating[Any]]

FREE_TRADING = {"execution_lag": 0, "cost_bps": 0.0}
SMALLEST_WEIGHT = 1e-8


@dataclass(frozen=True)
class Lottery:
    """The next day's outcomes: returns of N risky assets, K rows, and their probabilities. Hashable."""

    returns: tuple[tuple[float, ...], ...]
    probabilities: tuple[float, ...]

    def growth(self, weights: FloatArray) -> float:
        """E log(1 + w'r) of weights [N+1], cash last and earning nothing."""
        return float(np.log1p(np.array(self.returns) @ weights[:-1]) @ np.array(self.probabilities))

    @property
    def num_assets(self) -> int:
        """N."""
        return len(self.returns[0])


@lru_cache
def best_growth(lottery: Lottery) -> float:
    """The largest growth on the simplex."""
    result = minimize(
        lambda risky: -lottery.growth(np.append(risky, 0.0)),
        np.full(lottery.num_assets, 0.5 / lottery.num_assets),
        method="SLSQP",
        bounds=[(0.0, 1.0)] * lottery.num_assets,
        constraints={"type": "ineq", "fun": lambda risky: 1.0 - risky.sum()},
        options={"ftol": 1e-14},
    )
    return -float(result.fun)


@lru_cache
def uniform_growth(lottery: Lottery) -> float:
    """Growth of the uniform portfolio over the N + 1 assets, where a fresh policy starts."""
    return lottery.growth(np.full(lottery.num_assets + 1, 1.0 / (lottery.num_assets + 1)))


@dataclass(frozen=True)
class Certificate:
    """A market with a known optimum.

    Attributes:
        market: Its prices, drawn from a seed.
        lottery: The next day's outcomes, as known to whoever sees one observation [D].
    """

    market: Callable[[int], MarketData]
    lottery: Callable[[FloatArray], Lottery]

    def shares(self, policy: PortfolioPolicy, seed: int, num_envs: int = 32, days: int = 252) -> tuple[float, float]:
        """Growth as a share of the optimum, and the closed share of the gap between uniform and optimum."""
        env = PortfolioVectorEnv(num_envs, self.market(seed + 1000), "all", random_start=True, **FREE_TRADING)
        observations, _ = env.reset(seed=seed)
        growths = []
        for _ in range(days - 1):
            weights = policy(observations)
            for weight, observation in zip(weights, observations, strict=True):
                lottery = self.lottery(observation)
                growths.append((lottery.growth(weight), best_growth(lottery), uniform_growth(lottery)))
            observations, *_ = env.step(action_of(weights))
        reached, optimum, uniform = np.mean(growths, axis=0)
        return float(reached / optimum), float((reached - uniform) / (optimum - uniform))


def action_of(weights: FloatArray) -> FloatArray:
    """The action whose softmax gives `weights`: logits up to a constant, within what an action can say."""
    logits = np.log(np.maximum(weights, SMALLEST_WEIGHT))
    return (logits - logits.max(-1, keepdims=True)) / 10.0 + 1.0


def kelly(move: float, probability: float) -> Certificate:
    """One asset that gains or loses `move`; the optimum is (2 p - 1) / move (Kelly 1956)."""
    lottery = Lottery(((move,), (-move,)), (probability, 1.0 - probability))
    return Certificate(
        market=lambda seed: kelly_market(up=move, down=move, probability=probability, num_days=100_000, seed=seed),
        lottery=lambda observation: lottery,
    )


def regimes(move: float = 0.2, odds: float = 0.58) -> Certificate:
    """Two assets; the observable regime says which of them has the odds on its side."""
    table = ((odds, 1.0 - odds), (1.0 - odds, odds))
    ups = tuple(product((True, False), repeat=2))
    returns = tuple(tuple(move if up else -move for up in row) for row in ups)
    lotteries = [
        Lottery(returns, tuple(math.prod(p if up else 1.0 - p for p, up in zip(row, u, strict=True)) for u in ups))
        for row in table
    ]
    return Certificate(
        market=lambda seed: regime_market(probability=table, up=move, down=move, num_days=100_000, seed=seed),
        lottery=lambda observation: lotteries[int(np.argmax(observation[:2]))],
    )


def oracle(move: float = 0.02) -> Certificate:
    """The next day's return stands in the observation: all in before a gain, all out before a loss."""
    lotteries = {True: Lottery(((move,),), (1.0,)), False: Lottery(((-move,),), (1.0,))}
    return Certificate(
        market=lambda seed: leaked(kelly_market(up=move, down=move, probability=0.5, num_days=100_000, seed=seed)),
        lottery=lambda observation: lotteries[bool(observation[0] > 0.0)],
    )


def trained_policy(
    market: MarketData, folder: Path, seed: int, total_timesteps: int, algo: str = "ppo", **sections: Any
) -> PortfolioPolicy:
    """The policy of a run with the defaults, free of cost and lag, and `sections` of the configuration on top."""
    environment = FREE_TRADING | sections.pop("environment", {})
    schedule = {"total_timesteps": total_timesteps}
    config = RUN_CONFIGS[algo](seed=seed, environment=environment, schedule=schedule, **sections)
    return train(config, market, folder)


def train(
    config: RunConfig,
    market: MarketData,
    folder: Path,
    watch: Callable[[int, Any, PortfolioPolicy], None] | None = None,
    interval: int = 10_000,
) -> PortfolioPolicy:
    """Train to the end of the schedule, without checkpoints; the policy that is reached.

    Args:
        config: What to train.
        market: The market to train on.
        folder: Where it is written for the env runners.
        watch: Called with steps, algorithm and policy after the iteration that crosses a multiple of `interval` steps.
        interval: Environment steps.
    """
    path = folder / f"market_{config.seed}.npz"
    market.save(path)
    algorithm = ALGORITHMS[config.algo].build(config, path)
    try:
        steps = 0
        while steps < config.schedule.total_timesteps:
            before, steps = steps, int(algorithm.train()["num_env_steps_sampled_lifetime"])
            if watch is not None and before // interval < steps // interval:
                watch(steps, algorithm, current_policy(algorithm, config, market))
        return current_policy(algorithm, config, market)
    finally:
        algorithm.stop()

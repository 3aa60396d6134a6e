"""Markets whose optimum is known, and how close a trained policy comes to it.

Growth is computed exactly from the probabilities at every weight vector that the policy chooses, with the costs that it
pays; a simulated path only decides which states it visits. The optimum and the uniform portfolio are policies that walk
the same path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from rllib_portfolio.algorithms.policy_export import current_policy
from rllib_portfolio.algorithms.registry import ALGORITHMS
from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.config import RUN_CONFIGS, RunConfig
from rllib_portfolio.env import PortfolioVectorEnv
from rllib_portfolio.market import MarketData
from rllib_portfolio.policies.saved_policy import PortfolioPolicy

Decision = Callable[[FloatArray], FloatArray]
"""Target weights [B, N+1] of observations [B, D]."""
Outcomes = Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]
"""The next day's portfolio returns [B, J] and their probabilities [B, J], of weights [B, N+1] and observations."""

FREE_TRADING = {"execution_lag": 0, "cost_bps": 0.0}
SMALLEST_WEIGHT = 1e-8
EVALUATION_SEED = 1000
"""Added to a run's seed: its policy is judged on a path that it was not trained on."""


@dataclass(frozen=True)
class Walk:
    """Figures of a policy on a path: means over all environments and days.

    Attributes:
        growth: Expected log growth a day, after costs.
        turnover: A day.
        realised: Log growth of each day that came, [days, environments].
    """

    growth: float
    turnover: float
    realised: FloatArray = field(repr=False)


@dataclass(frozen=True, eq=False)
class Certificate:
    """A market with a known optimum.

    Attributes:
        market: Its prices, drawn from a seed.
        num_assets: N.
        outcomes: What the next day may bring a portfolio, as known to whoever sees the observations.
        optimum: The best policy; of a table of portfolios [A, N+1] and holding, the best that these allow.
        cost_bps: Of traded notional.
        action_table: Of policies with discrete actions.
    """

    market: Callable[[int], MarketData]
    num_assets: int
    outcomes: Outcomes
    optimum: Callable[[FloatArray | None], Decision]
    cost_bps: float = 0.0
    action_table: str = "auto"

    @property
    def environment(self) -> dict[str, Any]:
        """Settings that the environment must have."""
        return FREE_TRADING | {"cost_bps": self.cost_bps, "action_table": self.action_table}

    def walk(self, decide: Decision, seed: int, num_envs: int = 32, days: int = 252) -> Walk:
        """Walk the path of a seed from all cash."""
        env = PortfolioVectorEnv(
            num_envs, self._path(seed), "all", random_start=True, reward="log_return", **self.environment
        )
        observations, _ = env.reset(seed=seed)
        growths, turnovers, realised = [], [], []
        for _ in range(days - 1):
            weights = decide(observations)
            growths.append(self._growth(weights, observations))
            observations, rewards, _, _, infos = env.step(action_of(weights))
            realised.append(rewards)
            turnovers.append(infos["turnover"])
        return Walk(float(np.mean(growths)), float(np.mean(turnovers)), np.array(realised))

    @lru_cache(maxsize=2)  # noqa: B019 - certificates live as long as the process
    def _path(self, seed: int) -> MarketData:
        return self.market(seed + EVALUATION_SEED)

    def _growth(self, weights: FloatArray, observations: FloatArray) -> FloatArray:
        """Expected log growth [B] of the day, the cost of the trade from the held weights included."""
        held = observations[:, -self.num_assets - 1 : -1]
        cost = self.cost_bps / 1e4 * np.abs(weights[:, :-1] - held).sum(axis=1)
        returns, probabilities = self.outcomes(weights, observations)
        return np.log1p(-cost) + (probabilities * np.log1p(returns)).sum(axis=1)

    def shares(
        self, policy: Decision, seed: int, num_envs: int = 32, days: int = 252, table: FloatArray | None = None
    ) -> tuple[float, float]:
        """Growth as a share of the optimum, and the closed share of the gap between uniform and optimum."""
        reached = self.walk(policy, seed, num_envs, days).growth
        optimum, uniform = self.bounds(seed, num_envs, days, _key(table))
        return reached / optimum.growth, (reached - uniform.growth) / (optimum.growth - uniform.growth)

    @lru_cache(maxsize=64)  # noqa: B019 - certificates live as long as the process
    def bounds(
        self, seed: int, num_envs: int = 32, days: int = 252, table: tuple[tuple[float, ...], ...] | None = None
    ) -> tuple[Walk, Walk]:
        """The optimum's walk, and that of the uniform portfolio, where a fresh policy starts."""
        optimum = self.optimum(None if table is None else np.array(table))
        return self.walk(optimum, seed, num_envs, days), self.walk(self._uniform, seed, num_envs, days)

    def report(self, policy: Decision, seed: int, table: FloatArray | None = None) -> dict[str, float]:
        """All that a table says of a policy.

        Returns:
            growth: Share of the optimal growth. NaN where the optimum is not to grow.
            gap: Share of the gap between uniform and optimum that is closed. NaN where there is none.
            shortfall_bp: Expected growth below the optimum, basis points a day.
            z_uniform: Realised growth above that of uniform, in standard errors.
            shortfall_in_errors: Expected growth below the optimum, in standard errors of what uniform realised: what
                cannot be told from the optimum by looking at a path.
            turnover, optimal_turnover: A day.
        """
        walk = self.walk(policy, seed)
        optimum, uniform = self.bounds(seed, table=_key(table))
        return {
            "growth": _ratio(walk.growth, optimum.growth),
            "gap": _ratio(walk.growth - uniform.growth, optimum.growth - uniform.growth),
            "shortfall_bp": 1e4 * (optimum.growth - walk.growth),
            "z_uniform": _standard_errors(walk.realised - uniform.realised),
            "shortfall_in_errors": (optimum.growth - walk.growth) / _standard_error(uniform.realised),
            "turnover": walk.turnover,
            "optimal_turnover": optimum.turnover,
        }

    def _uniform(self, observations: FloatArray) -> FloatArray:
        num_weights = self.num_assets + 1
        return np.full((len(observations), num_weights), 1.0 / num_weights)


def _standard_errors(excess: FloatArray) -> float:
    """Mean over its standard error; 0 where nothing differs."""
    error = _standard_error(excess)
    return float(excess.mean()) / error if error > 0.0 else 0.0


def _standard_error(values: FloatArray) -> float:
    """Return the standard error of the mean of independent days."""
    return float(values.std(ddof=1)) / float(np.sqrt(values.size))


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if abs(denominator) > 1e-8 else float("nan")


def _key(table: FloatArray | None) -> tuple[tuple[float, ...], ...] | None:
    return None if table is None else tuple(map(tuple, table.tolist()))


def action_of(weights: FloatArray) -> FloatArray:
    """The action whose softmax gives `weights`: logits up to a constant, within what an action can say."""
    logits = np.log(np.maximum(weights, SMALLEST_WEIGHT))
    return (logits - logits.max(-1, keepdims=True)) / 10.0 + 1.0


def trained_policy(
    market: MarketData, folder: Path, seed: int, total_timesteps: int, algo: str = "ppo", **sections: Any
) -> PortfolioPolicy:
    """The policy of a run with the defaults, free of cost and lag, and `sections` of the configuration on top."""
    return train(run_config(algo, seed, total_timesteps, **sections), market, folder)


def run_config(algo: str, seed: int, total_timesteps: int, **sections: Mapping[str, Any]) -> RunConfig:
    """The defaults, free of cost and lag, and `sections` of the configuration on top."""
    environment = FREE_TRADING | dict(sections.pop("environment", {}))
    schedule = {"total_timesteps": total_timesteps}
    return RUN_CONFIGS[algo](seed=seed, environment=environment, schedule=schedule, **sections)


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
        watch: Called with steps, algorithm and policy, at the steps of `progress`.
        interval: Environment steps.
    """
    path = folder / f"market_{config.seed}.npz"
    market.save(path)
    algorithm = ALGORITHMS[config.algo].build(config, path)
    for steps in progress(algorithm, config.schedule.total_timesteps, interval):
        policy = current_policy(algorithm, config, market)
        if watch is not None:
            watch(steps, algorithm, policy)
    return policy


def progress(algorithm: Any, total_timesteps: int, interval: int) -> Iterator[int]:
    """Train an algorithm of RLlib, and stop it in the end.

    Yields:
        Environment steps after each iteration that crosses a multiple of `interval` steps, and after the last one.
    """
    steps = 0
    try:
        while steps < total_timesteps:
            before, steps = steps, int(algorithm.train()["env_runners"]["num_env_steps_sampled_lifetime"])
            if before // interval < steps // interval or steps >= total_timesteps:
                yield steps
    finally:
        algorithm.stop()

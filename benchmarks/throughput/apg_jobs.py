"""One measurement of analytic policy gradients over N assets: `python -m benchmarks.throughput.apg_jobs JOB`.

JOB and answer are JSON, and the answer is the last line of standard output. Settings are the defaults, on the market of
tune_configs/ppo_per_asset.yaml, for this package and for the bare loop alike. The bare loop neither normalises rewards
nor reports anything.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import one_process
from benchmarks.throughput.asset_jobs import Job, answer, market_config, market_file, prepare, speed
from rllib_portfolio.algorithms.apg.algorithm import build, module_spec
from rllib_portfolio.algorithms.learning.flat_parameters import FlatParameters
from rllib_portfolio.algorithms.learning.referenced_features import ReferencedFeatures
from rllib_portfolio.config import APGRunConfig
from rllib_portfolio.env import PortfolioVectorEnv

UPDATES = 9
"""Updates in an iteration of the bare loop, as many as in one of `train` by default."""
NUM_SEEDS = 5
"""Number of stacked seeds."""


def run_config(num_assets: int, folder: Path, starts: str = "learner", num_seeds: int = 1) -> APGRunConfig:
    """Return the default configuration with the market over `num_assets`."""
    settings: dict[str, Any] = {"training": {"starts": starts}, "resources": {"num_stacked_seeds": num_seeds}}
    return APGRunConfig(market=market_config(num_assets, folder), **settings)


def ours(num_assets: int, folder: Path, measure_s: float, starts: str, num_seeds: int = 1) -> dict[str, float]:
    """Return the steps of all seeds per second in RLlib's `train`."""
    config = run_config(num_assets, folder, starts, num_seeds)
    with one_process():
        algorithm = build(config, market_file(num_assets, folder))
        updates = algorithm.config.updates_per_iteration if starts == "learner" else 1
        steps = updates * config.rollout_steps * config.resources.num_envs * num_seeds
        found = speed(algorithm.train, steps, measure_s)
        algorithm.stop()
    return found


def bare(num_assets: int, folder: Path, measure_s: float) -> dict[str, float]:
    """Return the steps per second of the bare loop with the same network."""
    torch.set_num_threads(1)
    loop = BareLoop(run_config(num_assets, folder), market_file(num_assets, folder))

    def iterate() -> None:
        for _ in range(UPDATES):
            loop.train()

    return speed(iterate, UPDATES * loop.num_decisions * loop.num_portfolios, measure_s)


class BareLoop:
    """The gradient of the mean reward of B portfolios over H days, as a plain loop in torch.

    The costs are proportional, the reward is the log return in excess of the uniform portfolio, and portfolios may
    trade every day, one day after the decision.
    """

    def __init__(self, config: APGRunConfig, market_path: Path) -> None:
        torch.manual_seed(0)
        env = PortfolioVectorEnv(1, str(market_path), **config.environment.model_dump())
        spec, simulation = module_spec(config, env.simulation.market), env.simulation
        spaces = {"observation_space": env.single_observation_space, "action_space": env.single_action_space}
        self.network: Any = spec.module_class(**spaces, model_config=spec.model_config)
        self.flat, self.config = FlatParameters(self.network), config
        self.optimizer = torch.optim.Adam([self.flat.parameter], lr=config.training.learning_rate, fused=True)
        self.num_portfolios, self.num_decisions = config.resources.num_envs, config.rollout_steps
        self.features = ReferencedFeatures(simulation.layout, "cpu")
        self.growth = torch.tensor(1.0 + simulation.terms.returns, dtype=torch.float32)
        self.benchmark = torch.tensor(simulation.terms.benchmark_growth, dtype=torch.float32).log()
        self.rates = torch.tensor(simulation.terms.costs.rates, dtype=torch.float32)
        self.first, self.last = simulation.first_decision, simulation.last_row
        self.row, self.end = (torch.zeros(self.num_portfolios, dtype=torch.long) for _ in range(2))
        self.weights, self.held = torch.zeros(2, self.num_portfolios, simulation.market.num_assets + 1)

    def train(self) -> None:
        """Make one update."""
        self.restart()
        loss = self.loss()
        self.flat.gradient.zero_()
        loss.backward()
        self.flat.clip_gradient(self.config.training.max_gradient_norm)
        self.optimizer.step()

    def restart(self) -> None:
        """Begin a new episode in cash where too little is left of the last one for a horizon."""
        is_short = self.end - self.row < self.num_decisions
        days = self.config.environment.episode_days
        start = torch.randint(self.first, self.last - days + 1, (self.num_portfolios,))
        self.row, self.end = torch.where(is_short, start, self.row), torch.where(is_short, start + days, self.end)
        for weights in (self.weights, self.held):
            weights[is_short] = 0.0
            weights[is_short, -1] = 1.0

    def loss(self) -> torch.Tensor:
        """Return the negative mean reward of a day, and move the portfolios to the end of the horizon."""
        row, weights, held, gained = self.row, self.weights, self.held, torch.zeros(self.num_portfolios)
        for _ in range(self.num_decisions):
            observations = torch.cat([self.features.rows(row - 1), held], dim=-1)
            logits = self.network.logits(self.network.embed(observations))
            bound = self.config.environment.logit_scale
            held = torch.softmax(logits + (logits.clamp(-bound, bound) - logits).detach(), dim=-1)
            cost = (self.rates * (held - weights).abs()[:, :-1]).sum(-1)
            row = row + 1
            grown = held * self.growth[row]
            gross = grown.sum(-1)
            weights = grown / gross[:, None]
            gained = gained + ((1.0 - cost) * gross).log() - self.benchmark[row]
        self.row, self.weights, self.held = row, weights.detach(), held.detach()
        return -gained.mean() / self.num_decisions


JOBS: dict[str, Job] = {
    "prepare": prepare,
    "learner": partial(ours, starts="learner"),
    "env_runners": partial(ours, starts="env_runners"),
    "stacked": partial(ours, starts="learner", num_seeds=NUM_SEEDS),
    "bare": bare,
}

if __name__ == "__main__":
    answer(JOBS)

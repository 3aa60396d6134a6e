"""The trading rate is learned: with high costs a policy trades a smaller part of the way than without costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from rllib_portfolio.algorithms.apg.simulation import DifferentiableSimulation
from rllib_portfolio.market import MarketData
from rllib_portfolio.networks.actor_critic import INITIAL_RATE_LOGIT, ActorCriticShape, LayerNormNetwork
from tests.env.markets import market_of

NUM_DAYS, NUM_ASSETS, NUM_PORTFOLIOS, HORIZON, NUM_UPDATES = 2000, 2, 32, 6, 20
STEP = 0.02


def predictable_market() -> MarketData:
    """Returns that a feature predicts, with half of its variance; the feature of each day is independent."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(NUM_DAYS, NUM_ASSETS))
    returns = np.zeros((NUM_DAYS, NUM_ASSETS))
    returns[1:] = 0.01 * (signal[:-1] + rng.normal(size=(NUM_DAYS - 1, NUM_ASSETS)))
    features = signal[:, :, None].astype(np.float32)
    return replace(market_of(returns), asset_features=features, asset_feature_names=("signal",))


def learned_rate(market: MarketData, cost_bps: float) -> float:
    """The mean trading rate after updates of a fresh network by the gradient of its mean reward."""
    settings = {"cost_bps": cost_bps, "execution_lag": 0, "reward": "log_return", "episode_days": HORIZON}
    env_config = {"data": market, "window": "all", "random_start": True, "partial_trading": True, **settings}
    simulation = DifferentiableSimulation.of(env_config, "cpu")
    torch.manual_seed(0)
    num_inputs = len(simulation.simulation.layout.names)
    network = LayerNormNetwork(ActorCriticShape(num_inputs, NUM_ASSETS + 2, (16, 16), -0.7, has_trading_rate=True))
    parameters = [parameter for name, parameter in network.named_parameters() if name.startswith(("trunk", "actor"))]
    generator, rates = np.random.default_rng(1), []
    for _ in range(NUM_UPDATES):
        state = simulation.tensors(simulation.simulation.fresh([generator] * NUM_PORTFOLIOS))

        def mean_actions(observations: torch.Tensor) -> torch.Tensor:
            logits = network.logits(network.embed(observations))
            rates.append(float(torch.sigmoid(logits[..., -1].detach()).mean()))
            return logits / simulation.simulation.config.logit_scale

        rollout = simulation.rollout(mean_actions, state, HORIZON)
        gradients = torch.autograd.grad(rollout.rewards.mean(), parameters)
        with torch.no_grad():  # Adam's first step; its own class takes seconds to import
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.add_(STEP * gradient.sign())
    assert abs(np.mean(rates[:HORIZON]) - 1.0 / (1.0 + np.exp(-INITIAL_RATE_LOGIT))) < 0.02  # where both begin
    return float(np.mean(rates[-HORIZON:]))


def test_high_costs_lower_the_learned_rate() -> None:
    market = predictable_market()
    free, dear = (learned_rate(market, cost_bps) for cost_bps in (0.0, 100.0))
    assert dear < 0.6 < 0.9 < free

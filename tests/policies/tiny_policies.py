"""Saved policies with random weights, for markets of a few assets."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rllib_portfolio.config import EnvironmentConfig, NetworkConfig
from rllib_portfolio.env.observation import ObservationLayout
from rllib_portfolio.env.portfolio_env import PortfolioEnv
from rllib_portfolio.market import MarketData
from rllib_portfolio.policies.saved_policy import PolicySpec, PortfolioPolicy
from tests.market.tables import config

CONFIG = config()


def policy_for(market: MarketData, /, **spec: Any) -> PortfolioPolicy:
    """A policy with random weights, strong enough that what it sees moves it."""
    names = ObservationLayout(market).names
    values: dict[str, Any] = {
        "algo": "ppo",
        "assets": market.assets,
        "observation_names": names,
        "network": NetworkConfig(hidden_sizes=(16, 16)).model_dump(mode="json"),
        "market": CONFIG.model_dump(mode="json"),
        "environment": EnvironmentConfig().model_dump(mode="json"),
        "fitted": market.fitted,
    }
    weights = spec.pop("weights", None) or random_weights(len(names), len(market.assets) + 1)
    return PortfolioPolicy(PolicySpec(**{**values, **spec}), weights)


def random_weights(inputs: int, outputs: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "trunk.0": (16, inputs),
        "actor.0": (16, 16),
        "actor.3": (outputs, 16),
    }
    weights = {f"{name}.weight": torch.randn(*shape, generator=generator) / 4 for name, shape in shapes.items()}
    weights |= {f"{name}.bias": torch.zeros(shape[0]) for name, shape in shapes.items()}
    for name in ("trunk.2", "actor.2"):
        weights |= {f"{name}.weight": torch.ones(16), f"{name}.bias": torch.zeros(16)}
    return weights | {"log_std": torch.zeros(outputs)}


def observations_of(market: MarketData, count: int = 5) -> np.ndarray:
    env = PortfolioEnv(market, "train", random_start=True)
    return np.stack([env.reset(seed=seed)[0] for seed in range(count)])

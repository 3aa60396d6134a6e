"""Features, rewards and strategies with one mistake each, as an audit must find it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from rllib_portfolio.arrays import FloatArray
from rllib_portfolio.env.rewards import StepOutcome
from rllib_portfolio.policies.strategy import MarketView

_dice = np.random.default_rng(0)


def jittery(prices: pd.DataFrame) -> pd.DataFrame:
    """Another number each time, but only in the last digits."""
    return prices.pct_change() + 1e-12 * _dice.standard_normal(prices.shape)


def gross(outcome: StepOutcome) -> FloatArray:
    """The log return with the cost given back."""
    return outcome.log_return - np.log1p(-outcome.cost)


def random_reward(outcome: StepOutcome) -> FloatArray:
    """The log return, and dice."""
    return outcome.log_return + 1e-6 * _dice.standard_normal(outcome.wealth.shape)


@dataclass(frozen=True)
class Prophet:
    """Holds what will rise tomorrow: the array behind a view leads to the whole market."""

    name: str = "prophet"

    def decide(self, view: MarketView) -> FloatArray:
        behind = view.past_returns.base
        assert behind is not None
        returns = behind.reshape(-1, view.past_returns.shape[1])
        weights = np.zeros(len(view.weights))
        weights[int(np.argmax(returns[view.row + 1]))] = 1.0
        return weights


@dataclass(frozen=True)
class Gambler:
    """Holds another portfolio each time."""

    name: str = "gambler"

    def decide(self, view: MarketView) -> FloatArray:
        return _dice.dirichlet(np.ones(len(view.weights)))


@dataclass(frozen=True)
class Reversal:
    """Buys what fell most on the newest day that it is shown: as late as it is shown."""

    name: str = "reversal"

    def decide(self, view: MarketView) -> FloatArray:
        weights = np.exp(-100.0 * np.append(view.past_returns[-1], 0.0))
        return weights / weights.sum()


@dataclass(frozen=True)
class DriftReader:
    """Moves half way from what it is shown to hold to equal weights: whatever its weights know, it knows."""

    name: str = "drift reader"

    def decide(self, view: MarketView) -> FloatArray:
        equal = np.full(len(view.weights), 1.0 / len(view.weights))
        return 0.5 * (view.weights + equal)

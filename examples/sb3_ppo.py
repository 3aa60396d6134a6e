"""Train Stable-Baselines3's PPO in the environment, and back-test it with 1/N on the test window.

    python examples/sb3_ppo.py

This needs stable-baselines3, which the extra `test` installs.
"""

import gymnasium
import numpy as np
from stable_baselines3 import PPO

import rllib_portfolio
from rllib_portfolio.backtest.baselines import EqualWeight
from rllib_portfolio.backtest.comparison import compare
from rllib_portfolio.backtest.engine import backtest
from rllib_portfolio.config import ExecutionConfig
from rllib_portfolio.env.action_map import softmax_weights
from rllib_portfolio.market import load_market
from rllib_portfolio.policies.strategy import MarketView

market = load_market("sp500")
env = gymnasium.make(rllib_portfolio.ENV_ID, data=market, window="train", rebalance_days=21)
model = PPO("MlpPolicy", env, n_steps=128, device="cpu", seed=0)
model.learn(total_timesteps=1024)


class TrainedModel:
    """Lets a model of Stable-Baselines3 decide in the back-test."""

    name = "SB3 PPO"

    def decide(self, view: MarketView) -> np.ndarray:
        """Return target weights, cash last."""
        action, _ = model.predict(view.observation.astype(np.float32), deterministic=True)
        return softmax_weights(np.asarray(action, dtype=np.float64), 10.0)


window = market.windows["test"]
results = backtest(market, window, [TrainedModel(), EqualWeight()], ExecutionConfig(rebalance_days=21))
print(compare(results, market.cash_returns[slice(*window)], market.periods_per_year).T.to_string())

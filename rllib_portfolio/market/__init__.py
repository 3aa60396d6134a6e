"""Prices in, `MarketData` out: sources, validation, features, regimes, splits and synthetic markets.

`load_market` goes from a file to a frame with days (`files`), whose columns get roles (`columns`) and become a
`PriceTable` (`sources`), which must look like prices (`plausibility`). `prepare_market` then validates it
(`validation`), computes features (`panel`), splits rows (`splits`), and fits scaler and regimes (`scaling`, `regimes`).

Nothing here knows an environment, a policy, ray or torch. The invariant: what `MarketData` holds at row t is a function
of prices up to t and of numbers that were fitted on the training window.
"""

from rllib_portfolio.market.data import CASH, MarketData, Window
from rllib_portfolio.market.loading import load_market
from rllib_portfolio.market.prepare import prepare_market
from rllib_portfolio.market.simulators.markov import hidden_regime_market, mean_reverting_market, regime_market
from rllib_portfolio.market.simulators.synthetic import (
    bootstrap_market,
    crash_market,
    gbm_market,
    kelly_market,
    leaked,
    signal_market,
    student_t_market,
)
from rllib_portfolio.market.sources import read_table
from rllib_portfolio.market.splits import Fold, fold_config, walk_forward
from rllib_portfolio.market.table import PriceTable

__all__ = [
    "CASH",
    "Fold",
    "MarketData",
    "PriceTable",
    "Window",
    "bootstrap_market",
    "crash_market",
    "fold_config",
    "gbm_market",
    "hidden_regime_market",
    "kelly_market",
    "leaked",
    "load_market",
    "mean_reverting_market",
    "prepare_market",
    "read_table",
    "regime_market",
    "signal_market",
    "student_t_market",
    "walk_forward",
]

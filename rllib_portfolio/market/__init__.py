"""Preparation of `MarketData` from prices: sources, validation, features, regimes, splits and synthetic markets.

`load_market` reads a file into a dated frame (`files`), gives its columns their roles (`columns`), makes a `PriceTable`
of them (`sources`), and checks that they look like prices (`plausibility`). `prepare_market` validates the table
(`validation`), computes features (`panel`), splits rows (`splits`), and fits scaler and regimes (`scaling`, `regimes`).

This package does not depend on environments, policies, ray or torch. Its invariant is that row t of `MarketData` is a
function of prices up to t and of values that were fitted on the training window.
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

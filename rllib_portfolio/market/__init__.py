"""Prices in, `MarketData` out: sources, validation, features, regimes, splits and synthetic markets."""

from rllib_portfolio.market.data import CASH, MarketData, Window

__all__ = ["CASH", "MarketData", "Window"]


def load_market(config):
    from pathlib import Path

    return MarketData.load(Path(config.data))

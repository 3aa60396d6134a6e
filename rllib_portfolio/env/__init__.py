"""The portfolio environment: one kernel, a scalar and a vector adapter over it."""

from rllib_portfolio.env.portfolio_env import PortfolioEnv, PortfolioVectorEnv

__all__ = ["PortfolioEnv", "PortfolioVectorEnv"]

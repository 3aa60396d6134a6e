"""The portfolio environment: one kernel with a scalar and a vector adapter, which are imported on first use."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rllib_portfolio.env.portfolio_env import PortfolioEnv, PortfolioVectorEnv

__all__ = ["PortfolioEnv", "PortfolioVectorEnv"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from rllib_portfolio.env import portfolio_env

        return getattr(portfolio_env, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

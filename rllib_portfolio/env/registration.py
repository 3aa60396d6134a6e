"""Registration with Gymnasium: importing this module registers the environment without importing its code."""

import gymnasium

ENV_ID = "rllib_portfolio/Portfolio-v0"

gymnasium.register(
    id=ENV_ID,
    entry_point="rllib_portfolio.env.portfolio_env:PortfolioEnv",
    vector_entry_point="rllib_portfolio.env.portfolio_env:PortfolioVectorEnv",
)

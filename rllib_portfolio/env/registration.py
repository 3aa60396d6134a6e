"""The environment's name in Gymnasium's registry. Importing this module registers it, and loads nothing heavy."""

import gymnasium

ENV_ID = "rllib_portfolio/Portfolio-v0"

gymnasium.register(
    id=ENV_ID,
    entry_point="rllib_portfolio.env.portfolio_env:PortfolioEnv",
    vector_entry_point="rllib_portfolio.env.portfolio_env:PortfolioVectorEnv",
)

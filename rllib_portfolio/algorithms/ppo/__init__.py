"""PPO over the portfolio environment."""

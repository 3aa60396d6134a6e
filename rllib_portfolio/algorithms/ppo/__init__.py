"""PPO for the portfolio environment."""

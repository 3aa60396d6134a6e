"""DQN for the portfolio environment."""

"""DQN over the portfolio environment."""

"""RLlib algorithms over the portfolio environment, and the policies that they leave behind."""

"""Benchmarks of the tests in `rllib_portfolio.statistics`: size, power and speed."""

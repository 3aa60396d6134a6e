"""Env runners, their episodes, and the transfer of weights and market data to them."""

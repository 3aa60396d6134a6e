"""Env runners, their episodes, and the way of weights and markets to them."""

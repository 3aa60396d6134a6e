"""Strategies and saved policies, which decide on portfolio weights without training."""

"""Experiments of many training runs: a search for settings, and walk-forward analysis."""

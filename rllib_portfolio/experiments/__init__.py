"""Experiments of many training runs: hyperparameter search and walk-forward analysis."""
